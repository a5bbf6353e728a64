"""Every kind of picture that Pillow reads, everything that is none, and the reference's tiles."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from himtok_core.errors import PictureError
from himtok_core.images import choose_grid, normalise, open_picture, tile_picture

PARITY = Path(__file__).parents[1] / "data" / "parity"
EXPECTED = json.loads((PARITY / "preprocess.json").read_text())
TENSORS = load_file(PARITY / "preprocess.safetensors")


def scene() -> Image.Image:
    """Four colours in the corners of 24 x 16 pixels, so that a turn or a swapped axis shows."""
    image = Image.new("RGB", (24, 16), (250, 250, 250))
    image.paste((200, 30, 40), (0, 0, 12, 8))
    image.paste((30, 160, 60), (12, 0, 24, 8))
    image.paste((40, 60, 190), (0, 8, 12, 16))
    return image


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(first: Image.Image, second: Image.Image) -> int:
    assert first.mode == second.mode == "RGB" and first.size == second.size
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


# --- modes


@pytest.mark.parametrize(
    ("mode", "tolerance"),
    [("RGB", 0), ("RGBA", 0), ("RGBX", 0), ("RGBa", 0), ("CMYK", 0), ("YCbCr", 4), ("HSV", 4)],
)
def test_colour_modes(mode: str, tolerance: int) -> None:
    image = scene().convert("RGBA").convert("RGBa") if mode == "RGBa" else scene().convert(mode)
    assert difference(open_picture(image), scene()) <= tolerance


def test_palettes() -> None:
    for image in (scene().quantize(8), scene().quantize(8).convert("PA")):
        assert difference(open_picture(image), scene()) <= 4


def test_lab() -> None:
    # Full L with a = b = 0 (stored as 128) is white; half of L is a middle grey.
    assert min(open_picture(Image.new("LAB", (2, 2), (255, 128, 128))).getpixel((0, 0))) >= 254
    red, green, blue = open_picture(Image.new("LAB", (2, 2), (128, 128, 128))).getpixel((0, 0))
    assert red == green == blue and 110 < red < 130


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I", "F"])
def test_grey_modes(mode: str) -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 5, dtype=np.uint8), (4, 1)))
    if mode == "1":
        ramp = ramp.point(lambda level: 255 * (level > 99))
    image = ramp.convert("LA").convert("La") if mode == "La" else ramp.convert(mode)
    assert difference(open_picture(image), ramp.convert("RGB")) == 0


@pytest.mark.parametrize(
    ("mode", "dtype"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")]
)
def test_sixteen_bits_are_scaled_and_not_cut(mode: str, dtype: str) -> None:
    levels = np.array([[0, 257, 32896, 65535]], dtype=dtype)
    picture = open_picture(Image.frombytes(mode, (4, 1), levels.tobytes()))
    assert [picture.getpixel((x, 0)) for x in range(4)] == [(k, k, k) for k in (0, 1, 128, 255)]


def test_a_dark_sixteen_bit_file_stays_dark() -> None:
    levels = np.array([[0, 100, 255]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.asarray(open_picture(saved(Image.fromarray(levels), kind))).max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-2.0, 0.0, 2.0], [0, 128, 255]),
        ([0.0, 50_000.0, 100_000.0], [0, 128, 255]),
        ([-7.0, -7.0, -7.0], [0, 0, 0]),
    ],
)
def test_float_levels(values: list[float], expected: list[int]) -> None:
    picture = open_picture(Image.fromarray(np.array([values], dtype=np.float32)))
    assert np.asarray(picture)[0, :, 0].tolist() == expected


def test_thirty_two_bit_levels() -> None:
    picture = open_picture(Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.int32)))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 128, 255]


def test_levels_that_are_no_numbers() -> None:
    with pytest.raises(PictureError, match="no numbers"):
        open_picture(Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)))


# --- transparency, turning, frames


def test_transparency_lies_over_white() -> None:
    half = Image.new("RGBA", (3, 2), (255, 0, 0, 128))
    clear = Image.new("RGBA", (3, 2), (9, 9, 9, 0))
    for kind in ("PNG", "WEBP", "TIFF"):
        assert open_picture(saved(half, kind, lossless=True)).getpixel((0, 0)) == (255, 127, 127)
        assert open_picture(saved(clear, kind, lossless=True)).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(Image.new("LA", (2, 2), (0, 0))).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (2, 2), 7),
        Image.new("RGB", (2, 2), (7, 8, 9)),
        Image.new("I;16", (2, 2), 700),
        Image.new("1", (2, 2), 0),
    ],
    ids=lambda image: image.mode,
)
def test_a_transparent_colour_is_white(image: Image.Image) -> None:
    data = saved(image, "PNG", transparency=image.getpixel((0, 0)))
    assert open_picture(data).getpixel((1, 1)) == (255, 255, 255)
    assert open_picture(saved(image, "PNG")).getpixel((1, 1)) != (255, 255, 255)


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        picture = open_picture(saved(image, kind, transparency=0))
        assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]
    image.info["transparency"] = bytes([255, 0])
    assert open_picture(image).getpixel((1, 0)) == (255, 255, 255)


TURNS: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(saved(scene(), "PNG", exif=exif))
    assert difference(picture, TURNS[orientation](scene())) == 0
    assert picture.getexif().get(0x0112, 1) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter() -> None:
    data = saved(scene(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    assert difference(open_picture(data), scene()) == 0


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert difference(open_picture(data), frames[0]) == 0


# --- sources


def test_every_kind_of_source(tmp_path: Path) -> None:
    path = tmp_path / "scene.bmp"
    scene().save(path)
    with path.open("rb") as file:
        data = path.read_bytes()
        for source in (path, str(path), data, bytearray(data), file, scene(), np.asarray(scene())):
            assert difference(open_picture(source), scene()) == 0
    assert difference(open_picture(np.asarray(scene())[::-1, ::-1]), scene().rotate(180)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", "ICO", "TGA", "AVIF"])
def test_formats(kind: str) -> None:
    picture = open_picture(saved(scene(), kind))
    assert picture.mode == "RGB"
    assert abs(picture.getpixel((2, 2))[0] - 200) < 30 and picture.getpixel((2, 2))[2] < 90


def test_a_cmyk_jpeg() -> None:
    assert difference(open_picture(saved(scene().convert("CMYK"), "JPEG", quality=100)), scene()) < 60


def test_the_picture_is_a_copy() -> None:
    image, array = scene(), np.asarray(scene()).copy()
    for source in (image, array):
        picture = open_picture(source)
        picture.paste((0, 0, 0), (0, 0, 24, 16))
    assert image.getpixel((0, 0)) == (200, 30, 40) and array[0, 0, 0] == 200


# --- refusals


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 4), dtype=np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"\(3, 4, 5\)"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (np.zeros((4, 4, 3), dtype=bool), "bool"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no pixels"),
        (np.broadcast_to(np.uint8(0), (8001, 8000, 3)), "8000 x 8001 pixels, more than 64 megapixels"),
    ],
)
def test_wrong_arrays(array: np.ndarray, found: str) -> None:
    with pytest.raises(PictureError, match=found):
        open_picture(array)


@pytest.mark.parametrize(
    "source", [b"", b"not a picture", b"<svg></svg>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.7"]
)
def test_what_is_not_a_picture(source: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(source)
    for given in (source, path, io.BytesIO(source)):
        with pytest.raises(PictureError):
            open_picture(given)


def test_sources_that_are_no_picture(tmp_path: Path) -> None:
    for missing in (tmp_path / "missing.png", tmp_path, "a\0b", "x" * 5000):
        with pytest.raises(PictureError, match="no picture file"):
            open_picture(missing)
    for source in (None, 5, [1, 2]):
        with pytest.raises(PictureError, match="not (NoneType|int|list)"):
            open_picture(source)
    with pytest.raises(PictureError):
        open_picture(io.StringIO("text"))
    with pytest.raises(PictureError, match="no pixels"):
        open_picture(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_truncated_files(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, kind)
    open_picture(data)
    for length in (len(data) // 8, len(data) // 2):
        with pytest.raises(PictureError):
            open_picture(data[:length])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_refused_or_read_but_nothing_else() -> None:
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "DDS"):
        data = np.frombuffer(saved(scene(), kind), dtype=np.uint8)
        for _ in range(15):
            damaged = data.copy()
            damaged[random.integers(0, min(len(data), 300), size=4)] = random.integers(0, 256, size=4)
            try:
                assert open_picture(damaged.tobytes()).mode == "RGB"
            except PictureError as error:
                assert str(error)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises many pixels and holds none."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_before_decoding() -> None:
    # None of these files holds its pixels: to be refused for the size, the header alone must have been read.
    with pytest.raises(PictureError, match="8001 x 8000 pixels, more than 64 megapixels"):
        open_picture(png_header(8001, 8000))
    with pytest.raises(PictureError, match="damaged or cut off"):
        open_picture(png_header(8000, 8000))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused() -> None:
    for side in (10_000, 60_000, 2_000_000_000):
        with pytest.raises(PictureError, match="64 megapixels"):
            open_picture(png_header(side, side))


# --- preprocessing


def test_grids_agree_with_the_reference() -> None:
    rows = EXPECTED["grid_table_448"]["rows"]
    assert len(rows) == 260
    for width, height, max_tiles, columns, lines in rows:
        assert choose_grid(width, height, max_tiles, 448) == (columns, lines), (width, height, max_tiles)


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: case["tensor"])
def test_tiles_agree_with_the_reference(case: dict) -> None:
    picture = open_picture(PARITY / "images" / case["image"])
    pixels = normalise(tile_picture(picture, EXPECTED["tile_size"], case["max_tiles"]))
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    np.testing.assert_allclose(pixels, TENSORS[case["tensor"]], atol=EXPECTED["atol"], rtol=0)


def test_one_tile_has_no_thumbnail() -> None:
    assert [tile.size for tile in tile_picture(scene(), 32, 1)] == [(32, 32)]
    assert len(tile_picture(scene().resize((96, 64)), 32, 6)) == 7
