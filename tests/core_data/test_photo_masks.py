"""Masks of photographs: what is kept from training, and files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from himtok_core.data.photo_masks import DEFAULT_FILE, read_photo_masks
from himtok_core.errors import DataError
from himtok_core.geometry import mask_to_rle


def test_every_mask_is_for_training_or_for_evaluation(tmp_path: Path) -> None:
    masks = [np.eye(12, k=k, dtype=bool) for k in range(9)]
    path = tmp_path / "masks.json"
    path.write_text(json.dumps({"masks": [{"rle": mask_to_rle(mask)} for mask in masks]}))
    training, held_out = (list(read_photo_masks(path, held_out)) for held_out in (False, True))
    expected = [mask for number, mask in enumerate(masks) if number % 4 == 3]
    assert len(training) == 7 and all(map(np.array_equal, held_out, expected)) and len(held_out) == 2


def test_the_shipped_masks_are_of_many_sizes() -> None:
    shares = [mask.mean() for mask in read_photo_masks(DEFAULT_FILE, held_out=True)]
    assert len(shares) == 241 and min(shares) < 0.02 and max(shares) > 0.4


@pytest.mark.parametrize("text", ["", "[]", '{"masks": [{"size": 3}]}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "masks.json"
    path.write_text(text)
    with pytest.raises(DataError, match="masks.json is no file of masks"):
        list(read_photo_masks(path, held_out=False))
    with pytest.raises(DataError, match="no file of masks"):
        list(read_photo_masks(tmp_path / "nothing.json", held_out=False))
