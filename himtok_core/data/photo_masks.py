"""Masks of photographed things: a small file of outlines, three quarters of it for training.

Knows the file's layout (`assets/masks/README.md`) and which of its masks no training may see.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import geometry
from ..errors import DataError

DEFAULT_FILE = Path(__file__).resolve().parents[2] / "assets" / "masks" / "coco_masks.json"
_HELD_OUT_EVERY = 4


def read_photo_masks(path: Path, held_out: bool) -> Iterator[np.ndarray]:
    """The masks of a JSON file {"masks": [{"rle": compressed COCO RLE}]}: bool [H, W] each.

    Args:
        held_out: every fourth of them, which is for evaluation; otherwise the others.

    Raises:
        DataError: if the file cannot be read or is laid out otherwise.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["masks"]
        runs = [entry["rle"] for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no file of masks ({{'masks': [{{'rle': ...}}]}} is wanted): {error}"
        raise DataError(message) from error
    for number, rle in enumerate(runs):
        if (number % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == held_out:
            yield geometry.rle_to_mask(rle)
