import numpy as np
import pytest
import torch

from himtok_core.errors import MaskError
from himtok_core.generation.masks import draw_runs, picture_mask
from tests.conftest import tiny_parts


@pytest.fixture(scope="module")
def mask_tokenizer():
    return tiny_parts()[0].mask_tokenizer


def test_one_batch_of_mixed_runs_is_each_decoded_alone(mask_tokenizer):
    generator = torch.Generator().manual_seed(0)
    soft = [torch.rand(count, 1024, generator=generator).softmax(-1) for count in (32, 3)]
    hard = [(1, 2, 3, 4, 5), tuple(range(32)), (7,)]
    drawn = draw_runs(mask_tokenizer, [soft[0], hard[0], soft[1], hard[1], hard[2]])
    alone = [
        mask_tokenizer.decode_soft(soft[0][None]),
        mask_tokenizer.decode(torch.tensor([hard[0]])),
        mask_tokenizer.decode_soft(soft[1][None]),
        mask_tokenizer.decode(torch.tensor([hard[1]])),
        mask_tokenizer.decode(torch.tensor([hard[2]])),
    ]
    for got, expected in zip(drawn, alone, strict=True):
        assert got.dtype == np.float32 and got.shape == (32, 32)
        np.testing.assert_allclose(got, expected[0].numpy(), atol=1e-5)
    assert np.abs(drawn[1] - drawn[3]).max() > 1e-3  # so that a mix-up would show


def test_no_runs_are_no_work(mask_tokenizer):
    assert draw_runs(mask_tokenizer, []) == []


@pytest.mark.parametrize("run", [(), (1024,), (-1,), tuple(range(33))])
def test_impossible_runs_are_refused(mask_tokenizer, run):
    with pytest.raises(MaskError):
        draw_runs(mask_tokenizer, [(1, 2), run])


def test_a_mask_is_stretched_over_the_picture_and_never_empty():
    probability = np.zeros((4, 4), dtype=np.float32)
    assert picture_mask(probability, (40, 20)) is None
    probability[:, 2:] = 1
    mask = picture_mask(probability, (40, 20))
    assert mask.shape == (20, 40) and mask.dtype == bool
    assert mask[:, 21:].all() and not mask[:, :19].any()
