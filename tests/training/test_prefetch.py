"""Batches made ahead come in order and are the same, whoever makes them."""

import itertools

import torch

from himtok_core.data.scenes import World
from himtok_core.training.mask_data import MaskBatches
from himtok_core.training.prefetch import prefetch


def test_other_processes_make_the_same_batches_in_order(world: World) -> None:
    batches = MaskBatches(world, 16, 4, seed=3, photo_masks=None)
    alone, ahead = list(prefetch(batches, 2, 7, workers=0)), list(prefetch(batches, 2, 7, workers=2))
    assert len(alone) == len(ahead) == 5
    for (masks, lengths), (others, other_lengths) in zip(alone, ahead, strict=True):
        assert torch.equal(masks, others) and torch.equal(lengths, other_lengths)
    assert torch.equal(alone[0][0], batches(2)[0])


def test_a_finished_run_makes_nothing(world: World) -> None:
    assert list(prefetch(MaskBatches(world, 16, 4, 3, None), 7, 7, workers=2)) == []


def test_without_a_gpu_a_batch_is_made_when_it_is_wanted() -> None:
    made: list[int] = []
    list(itertools.islice(prefetch(made.append, 0, 100), 2))
    if not torch.cuda.is_available():
        assert made == [0, 1]
