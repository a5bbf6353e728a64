"""Masks drawn from the first 1, 2, 4, ... of their tokens: true tokens, or those that a model answered with.

Knows which masks of drawn scenes no training saw.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .. import geometry
from ..data.scenes import HELD_OUT_SEED, make_scene
from ..data.world import World
from ..mask_tokenizer import MaskTokenizer
from . import metrics

LENGTHS = (1, 2, 4, 8, 16, 32)
_BATCH = 32


@dataclass(frozen=True)
class TokenizerScores:
    """Of runs of tokens: mean IoU for each of LENGTHS, codes used at least once, their perplexity."""

    count: int
    mean_iou: dict[int, float] = field(default_factory=dict)
    codes_used: int = 0
    codebook_size: int = 0
    perplexity: float = 0.0


def scene_masks(world: World, scenes: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Each object's mask of held-out scenes, bool [H, W] at the size of its picture."""
    for number in range(HELD_OUT_SEED + seed, HELD_OUT_SEED + seed + scenes):
        yield from (item.mask for item in make_scene(number, world).objects)


def round_trip(tokenizer: MaskTokenizer, masks: Iterable[np.ndarray]) -> TokenizerScores:
    """Encodes bool masks [H, W] and decodes them from the first 1, 2, 4, ... tokens: `prefix_scores`."""

    def encoded() -> Iterator[tuple[Sequence[int], np.ndarray]]:
        rest = iter(masks)
        while some := list(itertools.islice(rest, _BATCH)):
            stretched = [geometry.stretch_mask(mask, tokenizer.config.mask_size) for mask in some]
            yield from zip(tokenizer.encode(torch.from_numpy(np.stack(stretched))).tolist(), some)

    return prefix_scores(tokenizer, encoded())


def prefix_scores(
    tokenizer: MaskTokenizer, runs: Iterable[tuple[Sequence[int], np.ndarray]]
) -> TokenizerScores:
    """Decodes runs of all tokens from the first 1, 2, 4, ... of them (the paper, figure 9).

    Masks are compared at their own size, so what stretching costs is part of the score.

    Args:
        runs: codes, and the true mask bool [H, W].
    """
    lengths = [length for length in LENGTHS if length <= tokenizer.config.num_latent_tokens]
    ious: dict[int, list[float]] = {length: [] for length in lengths}
    used = np.zeros(tokenizer.config.codebook_size, dtype=np.int64)
    rest = iter(runs)
    while some := list(itertools.islice(rest, _BATCH)):
        tokens = torch.tensor([codes for codes, _ in some])
        used += np.bincount(tokens.numpy().ravel(), minlength=len(used))
        drawn = tokenizer.decode_prefixes(tokens, lengths).float().cpu().numpy()
        for (_, truth), prefixes in zip(some, drawn, strict=True):  # (P, S, S)
            for length, probability in zip(lengths, prefixes, strict=True):
                mask = geometry.mask_from_probability(probability, truth.shape[::-1])
                ious[length].append(metrics.iou(metrics.overlap(mask, truth)))
    return TokenizerScores(
        count=len(ious[lengths[0]]),
        mean_iou={length: metrics.mean(values) for length, values in ious.items()},
        codes_used=int((used > 0).sum()),
        codebook_size=len(used),
        perplexity=metrics.perplexity(used),
    )
