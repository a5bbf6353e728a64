"""Pictures and masks find their way into SAM's square and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything.utils.transforms import ResizeLongestSide

from himtok_core.refine import SamConfig
from himtok_core.refine.frame import Frame

from .conftest import PUBLIC_TINY, TINY

SIZES = [(128, 128), (200, 100), (37, 311), (5, 4), (1, 300), (640, 427)]


@pytest.mark.parametrize("config", [TINY, PUBLIC_TINY], ids=["stretched", "padded"])
@pytest.mark.parametrize("size", SIZES)
def test_there_and_back_is_the_same_place(size: tuple[int, int], config: SamConfig) -> None:
    """A half picture that goes in as a map comes back as the same half, up to a cell of SAM's masks."""
    frame = Frame.of(size, config)
    half = np.zeros((64, 64), np.float32)
    half[:, 32:] = 1
    back = frame.leave(frame.enter_maps(torch.from_numpy(half)[None]) - 0.5)[0]
    assert back.shape == (size[1], size[0])
    cell = max(size) / config.mask_size if not config.stretch else size[0] / config.mask_size
    columns = torch.arange(size[0]) + 0.5 - size[0] / 2
    back = back[: max(1, round(size[1] - cell))]  # the lowest cell of a padded picture is partly padding
    assert (back[:, columns < -cell] < 0).all()
    assert (back[:, columns > cell] > 0).all()


def test_padded_picture_keeps_its_shape() -> None:
    frame = Frame.of((200, 100), PUBLIC_TINY)
    assert frame.enter(Image.new("RGB", (200, 100))).shape == (3, 64, 128)
    assert frame.enter_maps(torch.ones(1, 64, 64))[0].sum() == 32 * 16  # below lies what is no picture


def test_stretched_picture_fills_the_square() -> None:
    frame = Frame.of((200, 100), TINY)
    assert frame.enter(Image.new("RGB", (200, 100))).shape == (3, 128, 128)
    assert frame.enter_maps(torch.ones(1, 64, 64)).min() == 1


@pytest.mark.parametrize("size", [(60, 60), (300, 200), (31, 90)])
def test_padded_pixels_are_the_package_s(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    ours = Frame.of(size, PUBLIC_TINY).enter(Image.fromarray(picture))
    theirs = ResizeLongestSide(PUBLIC_TINY.image_size).apply_image(picture)
    assert np.array_equal(ours.permute(1, 2, 0), theirs)


def test_padded_sides_are_the_package_s() -> None:
    config = replace(PUBLIC_TINY, image_size=1024)
    for width, height in SIZES:
        theirs = ResizeLongestSide.get_preprocess_shape(height, width, 1024)
        assert Frame.of((width, height), config).inner == (max(1, theirs[1]), max(1, theirs[0]))
