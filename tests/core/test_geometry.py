"""Scale changes, stretching, overlap, run-length code and hit-testing on masks drawn here."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import load_file

from himtok_core import geometry
from himtok_core.errors import MaskError

REFERENCE = load_file(Path(__file__).parents[1] / "data" / "parity" / "preprocess.safetensors")
BOX_SIDES = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted)
MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def rectangle(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_boxes_change_scale_along_the_right_axis() -> None:
    assert geometry.scale_box_to_pixels((0, 500, 250, 1000), (640, 200)) == (0, 100, 160, 200)
    assert geometry.scale_box_to_thousand((0, 100, 160, 200), (640, 200)) == (0, 500, 250, 1000)


def test_a_box_over_the_edge_is_cut_off() -> None:
    assert geometry.scale_box_to_thousand((-3, 10, 205, 400), (200, 100)) == (0, 100, 1000, 1000)


@given(
    st.tuples(BOX_SIDES, BOX_SIDES).map(lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_box_scales_are_inverse(box: tuple[int, ...], size: tuple[int, int]) -> None:
    assert geometry.scale_box_to_thousand(geometry.scale_box_to_pixels(box, size), size) == box


@pytest.mark.parametrize("box", [(1, 2, 3), (3, 0, 1, 5), (0, 5, 1, 3), (0, 0, np.nan, 1), (0, 0, np.inf, 1)])
def test_a_wrong_box_is_refused(box: tuple[float, ...]) -> None:
    for convert in (geometry.scale_box_to_pixels, geometry.scale_box_to_thousand):
        with pytest.raises(MaskError):
            convert(box, (10, 10))
    with pytest.raises(MaskError):
        geometry.box_iou(box, (0, 0, 1, 1))


def test_a_probability_covers_the_whole_picture() -> None:
    probability = np.zeros((8, 8), dtype=np.float32)
    probability[:, 4:] = 1
    probability[6:] = 0
    mask = geometry.mask_from_probability(probability, (80, 40))
    assert mask.dtype == bool and mask.shape == (40, 80)
    assert geometry.mask_iou(mask, rectangle(40, 80, 40, 0, 80, 30)) > 0.95
    assert mask[0, 79] and not mask[39, 79] and not mask[0, 0]


def test_the_outline_runs_between_the_cells() -> None:
    # The probability falls along x from 1 to 0.3 and passes 0.5 at 5/7 of the way between the two centres.
    probability = np.repeat(np.array([[1, 0.3]], dtype=np.float32), 2, axis=0)
    mask = geometry.mask_from_probability(probability, (400, 4))
    assert geometry.box_of_mask(mask) == (0, 0, round(100 + 200 * 5 / 7), 4)


def test_one_half_is_not_mask() -> None:
    assert not geometry.mask_from_probability(np.full((4, 4), 0.5, dtype=np.float32), (4, 4)).any()


def test_stretching_agrees_with_the_reference() -> None:
    mask = REFERENCE["himt/pil_resize/mask_75x110"]
    stretched = geometry.stretch_mask(mask > 127, 64)
    assert stretched.dtype == np.float32 and stretched.shape == (64, 64)
    np.testing.assert_array_equal(np.rint(stretched * 255), REFERENCE["himt/pil_resize/bicubic_square"])


def resized(mask: np.ndarray, side: int) -> np.ndarray:
    """What Pillow makes of the grey levels of a whole mask in 0..1: uint8 [side, side]."""
    grey = Image.fromarray(np.rint(mask.astype(np.float32) * 255).astype(np.uint8))
    return np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC))


def masks_of_all_sizes(height: int, width: int) -> dict[str, np.ndarray]:
    """Nothing, all, and things in the middle and at each border, from one pixel to nearly everything."""
    rng, third = np.random.default_rng([height, width]), (height // 3, width // 3)
    y, x = np.ogrid[:height, :width]
    centre, radii = ((height - 1) / 2, (width - 1) / 2), (max(1, height / 3), max(1, width / 3))
    masks = {
        "empty": rectangle(height, width, 0, 0, 0, 0),
        "full": rectangle(height, width, 0, 0, width, height),
        "pixel": rectangle(height, width, third[1], third[0], third[1] + 1, third[0] + 1),
        "ellipse": ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1,
        "large": rectangle(height, width, 1, 1, max(2, width - 1), max(2, height - 1)),
        "top": rectangle(height, width, third[1], 0, width - third[1], third[0] + 1),
        "left": rectangle(height, width, 0, third[0], third[1] + 1, height - third[0]),
        "bottom": rectangle(height, width, third[1], height - 1, third[1] + 2, height),
        "right": rectangle(height, width, width - 1, third[0], width, third[0] + 2),
        "noise": rng.random((height, width)) < 0.5,
    }
    corners = rectangle(height, width, 0, 0, 1, 1)
    corners[-1, -1] = True
    apart = rng.random((height, width)) < 3 / (height * width)
    return {**masks, "corners": corners, "apart": apart, "transposed": masks["left"].T}


@pytest.mark.parametrize("side", [16, 64, 100, 128, 256])
@pytest.mark.parametrize(
    "size", [(1, 1), (3, 5), (9, 64), (64, 64), (75, 110), (128, 1), (240, 256), (301, 203), (480, 640)]
)
def test_stretching_is_the_bicubic_resize_of_the_whole_mask(size: tuple[int, int], side: int) -> None:
    """However little of it is looked at."""
    for name, mask in masks_of_all_sizes(*size).items():
        levels, expected = geometry.stretch_mask_to_bytes(mask, side), resized(mask, side)
        assert levels.dtype == np.uint8
        np.testing.assert_array_equal(levels, expected, err_msg=name)
        stretched = geometry.stretch_mask(mask, side)
        assert stretched.dtype == np.float32
        np.testing.assert_array_equal(stretched, expected.astype(np.float32) / 255, err_msg=name)


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from([16, 64, 100, 128, 256]),
)
def test_stretching_a_rectangle_anywhere_is_the_bicubic_resize_of_the_whole_mask(
    size: tuple[int, int], corners: tuple[float, ...], side: int
) -> None:
    height, width = size
    x0, x1 = sorted(round(share * width) for share in corners[:2])
    y0, y1 = sorted(round(share * height) for share in corners[2:])
    mask = rectangle(height, width, x0, y0, x1, y1)
    np.testing.assert_array_equal(geometry.stretch_mask_to_bytes(mask, side), resized(mask, side))


@pytest.mark.parametrize("size", [(201, 2), (255, 2)])
def test_a_mask_that_is_a_line_is_stretched_as_a_whole(size: tuple[int, int]) -> None:
    mask = rectangle(*size, 0, size[0] // 3, 1, size[0] // 2)
    np.testing.assert_array_equal(geometry.stretch_mask_to_bytes(mask, 256), resized(mask, 256))


def test_a_soft_mask_is_stretched_in_256_levels() -> None:
    mask = np.random.default_rng(0).random((40, 70)).astype(np.float32)
    levels = geometry.stretch_mask_to_bytes(mask, 64)
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, resized(mask, 64))
    np.testing.assert_array_equal(geometry.stretch_mask(mask, 64), levels.astype(np.float32) / 255)
    np.testing.assert_array_equal(
        geometry.stretch_mask_to_bytes(mask > 0.5, 64),
        geometry.stretch_mask_to_bytes((mask > 0.5).astype(np.float64), 64),
    )


def test_stretching_there_and_back() -> None:
    mask = rectangle(90, 120, 20, 10, 100, 70)
    back = geometry.mask_from_probability(geometry.stretch_mask(mask, 64), (120, 90))
    assert geometry.mask_iou(mask, back) > 0.97


@pytest.mark.parametrize(
    "mask", [np.zeros((3, 3, 1)), np.zeros((0, 4)), np.full((2, 2), 255), np.full((2, 2), np.nan)]
)
def test_what_is_no_mask_is_not_stretched(mask: np.ndarray) -> None:
    for stretch in (geometry.stretch_mask, geometry.stretch_mask_to_bytes):
        with pytest.raises(MaskError):
            stretch(mask, 8)


def test_box_of_a_mask() -> None:
    assert geometry.box_of_mask(rectangle(9, 7, 2, 3, 5, 8)) == (2, 3, 5, 8)
    assert geometry.box_of_mask(np.ones((9, 7), dtype=bool)) == (0, 0, 7, 9)
    assert geometry.box_of_mask(np.zeros((9, 7), dtype=bool)) is None


def test_mask_iou() -> None:
    first, second = rectangle(10, 10, 0, 0, 4, 4), rectangle(10, 10, 2, 0, 6, 4)
    assert geometry.mask_iou(first, second) == 8 / 24
    assert geometry.mask_iou(first, first) == 1
    empty = np.zeros((10, 10), dtype=bool)
    assert geometry.mask_iou(first, empty) == 0
    assert geometry.mask_iou(empty, empty) == 1
    with pytest.raises(MaskError, match=r"\(10, 10\) and \(10, 9\)"):
        geometry.mask_iou(first, first[:, 1:])


def test_box_iou() -> None:
    assert geometry.box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == 8 / 24
    assert geometry.box_iou((0, 0, 4, 4), (4, 4, 6, 6)) == 0
    assert geometry.box_iou((0, 0, 1, 1), (5, 5, 6, 6)) == 0
    assert geometry.box_iou((1, 1, 1, 1), (1, 1, 1, 1)) == 0


@given(MASKS)
def test_rle_round_trip_through_json(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(geometry.mask_to_rle(mask)))
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(geometry.rle_to_mask(rle), mask)


def test_rle_of_a_large_mask() -> None:
    mask = np.random.default_rng(0).random((300, 500)) > 0.97
    mask[100:290, 50:400] = True
    np.testing.assert_array_equal(geometry.rle_to_mask(geometry.mask_to_rle(mask)), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [8, 8]},
        {"size": [4], "counts": "88"},
        {"size": [0, 4], "counts": "0"},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "9"},
        {"size": [4, 4], "counts": "o"},
        {"size": [4, 4], "counts": "\x00"},
        {"size": [4, 4], "counts": "é"},
        {"size": [4, 4], "counts": "9" * 4000},
        {"size": [10**9, 10**9], "counts": "P" * 12 + "1"},
        {"size": [4, 4], "counts": "o" * 4000 + "0"},
    ],
)
def test_damaged_rle_is_refused(rle: dict[str, object]) -> None:
    with pytest.raises(MaskError, match="COCO RLE"):
        geometry.rle_to_mask(rle)


@given(st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=12))
def test_any_counts_give_a_mask_or_an_error(counts: str) -> None:
    try:
        mask = geometry.rle_to_mask({"size": [3, 5], "counts": counts})
    except MaskError:
        return
    assert mask.shape == (3, 5) and mask.dtype == bool


def test_the_smallest_mask_is_hit_first() -> None:
    large, small = rectangle(10, 10, 0, 0, 8, 8), rectangle(10, 10, 2, 2, 4, 4)
    assert geometry.hit_test([large, None, small], 3.7, 2) == 2
    assert geometry.hit_test([small, large], 3, 2) == 0
    assert geometry.hit_test([large, None, small], 4, 4) == 0
    assert geometry.hit_test([large, small], 9, 9) is None
    assert geometry.hit_test([large, small], -1, 3) is None
    assert geometry.hit_test([large, small], 3, 10) is None
    assert geometry.hit_test([], 3, 3) is None
