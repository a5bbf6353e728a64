"""Masks of shapes that scenes hardly have: each kind is what it is called."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from himtok_core.data.odd_masks import KINDS, odd_mask


def made(kind: str, count: int = 40) -> list[np.ndarray]:
    return [KINDS[kind](np.random.default_rng(seed)) for seed in range(count)]


def parts(mask: np.ndarray) -> int:
    """The number of connected parts at a quarter of the size, each filled once."""
    picture = Image.fromarray(mask[::4, ::4].astype(np.uint8) * 255).copy()  # one that can be written
    count = 0
    while (left := np.asarray(picture) == 255).any():
        y, x = (int(places[0]) for places in np.nonzero(left))
        ImageDraw.floodfill(picture, (x, y), 100)
        count += 1
    return count


@pytest.mark.parametrize("kind", list(KINDS))
def test_masks_are_neither_empty_nor_full(kind: str) -> None:
    masks = made(kind)
    assert all(mask.shape == (256, 256) and mask.dtype == np.bool_ for mask in masks)
    assert all(mask.any() and not mask.all() for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_kinds_are_what_they_are_called() -> None:
    thin = [mask.mean() for mask in made("thin")]
    assert max(thin) < 0.15
    holes = [parts(np.pad(~mask, 4, constant_values=True)) - 1 for mask in made("holed", 12)]
    assert np.mean([count >= 1 for count in holes]) >= 0.5
    assert np.mean([parts(mask) > 1 for mask in made("in parts", 12)]) > 0.7
    for mask in made("at the border"):
        assert mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    assert max(mask.mean() for mask in made("tiny")) < 0.01
    assert min(mask.mean() for mask in made("huge")) > 0.4


def test_the_same_seed_makes_the_same_mask_of_any_kind() -> None:
    first, again = (odd_mask(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, odd_mask(np.random.default_rng(4)))
