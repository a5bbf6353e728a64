"""The drawings that scenes are made of: a folder of emoji sprites with their names and licences.

Knows three freely licensed sets that the npm registry carries, fetches them, checks their checksums and
rasterises the chosen concepts into `assets/sprites`. What is done with a sprite is left to `scenes`.

`python -m himtok_core.data.sprites` fetches and draws the concepts of `sprites.json` again.
"""

import argparse
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image

from ..errors import DataError

SPRITE_SIZE = 128  # pixels a side, transparent margins cut off and the longer side stretched to this
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "sprites"


@dataclass(frozen=True)
class Concept:
    """A thing with a name: `name`, Unicode `code` (hex, joined by "-"), further names, drawing styles."""

    name: str
    code: str
    synonyms: tuple[str, ...]
    styles: tuple[str, ...]


@dataclass(frozen=True)
class SpriteSource:
    """One npm package of drawings; `integrity` is the registry's sha512 of the archive."""

    style: str
    package: str
    integrity: str
    licence: str


SOURCES = (
    SpriteSource(
        "fluent3d",
        "@lobehub/fluent-emoji-3d@1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "Fluent Emoji, (c) Microsoft Corporation, MIT; packaged by LobeHub, MIT",
    ),
    SpriteSource(
        "noto",
        "@iconify-json/noto@1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Noto Emoji, (c) Google Inc., Apache-2.0",
    ),
    SpriteSource(
        "twemoji",
        "@twemoji/svg@15.0.0",
        "sha512-ZSPef2B6nBaYnfgdTbAy4jgW95o7pi2xPGwGCU+WMTxo7J6B1lMPTWwSq/wTuiMq+N0khQ90CcvYp1wFoQpo/w==",
        "Twemoji, (c) Twitter, Inc. and other contributors, graphics CC BY 4.0",
    ),
)


@lru_cache(maxsize=4)
def load_concepts(folder: Path = DEFAULT_FOLDER) -> tuple[Concept, ...]:
    """The concepts of a sprite folder, in the order of its `sprites.json`.

    Raises:
        DataError: if there is no such file, or it does not say what it should.
    """
    try:
        entries = json.loads((folder / "sprites.json").read_text(encoding="utf-8"))["concepts"]
        return tuple(
            Concept(entry["name"], entry["code"], tuple(entry["synonyms"]), tuple(entry["styles"]))
            for entry in entries
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder} is no sprite folder (a sprites.json with concepts is expected): {error}"
        raise DataError(message) from error


@cache
def load_sprite(code: str, style: str, folder: Path = DEFAULT_FOLDER) -> Image.Image:
    """One drawing, RGBA with straight alpha, cut to its outline.

    Raises:
        DataError: if the folder has no such drawing.
    """
    path = folder / style / f"{code}.png"
    try:
        return Image.open(path).convert("RGBA")
    except OSError as error:
        raise DataError(f"the drawing {path} cannot be read: {error}") from error


def fetch_package(source: SpriteSource, folder: Path) -> Path:
    """Download one package with npm, check it, unpack it; return the folder with its files.

    Raises:
        DataError: if npm fails or the archive is not the one that was pinned.
    """
    command = ["npm", "pack", "--silent", source.package]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise DataError(f"npm is not installed, it is needed to fetch {source.package}") from error
    if done.returncode:
        raise DataError(f"npm could not fetch {source.package}: {done.stderr.strip()}")
    archive = folder / done.stdout.strip().splitlines()[-1]
    digest = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != source.integrity:
        raise DataError(f"{source.package} has checksum {digest}, expected {source.integrity}")
    target = folder / source.style
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def rasterise(svg: str) -> Image.Image:
    """SVG text -> RGBA at twice the sprite size."""
    import resvg_py  # only the one-off build of the sprite folder needs it

    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * SPRITE_SIZE)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def read_drawing(source: SpriteSource, package: Path, code: str) -> Image.Image | None:
    """One drawing of an unpacked package, or None if the set has none for this code."""
    short = code.removesuffix("-fe0f")
    if source.style == "fluent3d":
        for name in (code, short, f"{short}-fe0f"):
            if (package / "assets" / f"{name}.webp").exists():
                return Image.open(package / "assets" / f"{name}.webp").convert("RGBA")
        return None
    if source.style == "noto":
        icons = _noto_icons(package)
        body = icons.get(code) or icons.get(short)
        return rasterise(body) if body else None
    path = package / f"{short}.svg"
    return rasterise(path.read_text(encoding="utf-8")) if path.exists() else None


@lru_cache(maxsize=1)
def _noto_icons(package: Path) -> dict[str, str]:
    names = json.loads((package / "chars.json").read_text(encoding="utf-8"))
    collection = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    side = collection.get("height", 16)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
    icons = collection["icons"]
    return {code: f"{opening}{icons[name]['body']}</svg>" for code, name in names.items() if name in icons}


def cut_out(drawing: Image.Image) -> Image.Image:
    """Cut transparent margins off and scale the longer side to SPRITE_SIZE."""
    box = drawing.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    drawing = drawing.crop(box)
    scale = SPRITE_SIZE / max(drawing.size)
    return drawing.resize([max(1, round(side * scale)) for side in drawing.size], Image.Resampling.LANCZOS)


def build(chosen: list[dict], folder: Path = DEFAULT_FOLDER) -> tuple[Concept, ...]:
    """Make a sprite folder: fetch the sets, draw every chosen concept in every style that has it.

    Args:
        chosen: entries {"name", "code", "synonyms"}.
        folder: where `sprites.json` and `<style>/<code>.png` go.
    """
    styles: dict[str, list[str]] = {entry["code"]: [] for entry in chosen}
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            package = fetch_package(source, Path(scratch))
            (folder / source.style).mkdir(parents=True, exist_ok=True)
            for code in styles:
                drawing = read_drawing(source, package, code)
                if drawing is not None:
                    cut_out(drawing).save(folder / source.style / f"{code}.png", optimize=True)
                    styles[code].append(source.style)
    entries = [{**entry, "styles": styles[entry["code"]]} for entry in chosen if styles[entry["code"]]]
    sources = [asdict(source) for source in SOURCES]
    text = json.dumps({"sources": sources, "concepts": entries}, indent=1, ensure_ascii=False)
    (folder / "sprites.json").write_text(text + "\n", encoding="utf-8")
    load_concepts.cache_clear()
    load_sprite.cache_clear()
    return load_concepts(folder)


def main(argv: list[str]) -> int:
    """Draw the concepts of the shipped `sprites.json` anew; needs npm and a network."""
    parser = argparse.ArgumentParser(prog="python -m himtok_core.data.sprites", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder (default: %(default)s)")
    folder = parser.parse_args(argv).out
    listed = json.loads((DEFAULT_FOLDER / "sprites.json").read_text(encoding="utf-8"))["concepts"]
    try:
        concepts = build(listed, folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    drawings = sum(len(concept.styles) for concept in concepts)
    print(f"{drawings} drawings of {len(concepts)} concepts in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
