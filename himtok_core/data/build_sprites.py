"""How the sprite folders are made: three freely licensed sets of drawings that the npm registry carries.

Knows the packages, fetches them, checks their checksums and draws the concepts of a folder's `sprites.json`
into one sheet for each style. What is done with the sheets is left to `sprites`.

`python -m himtok_core.data.build_sprites mini` (or `full`) fetches and draws the concepts of a folder again.
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
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ..errors import DataError
from .sprites import COLUMNS, FOLDER, Concept, load_concepts, load_sheet, load_sprite, places


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
    """SVG text -> RGBA, much larger than a sprite."""
    import resvg_py  # only the one-off build of the sprite folder needs it

    png = resvg_py.svg_to_bytes(svg_string=svg, width=256)
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
    found = [path for name in (code, short) if (path := package / f"{name}.svg").exists()]
    return rasterise(found[0].read_text(encoding="utf-8")) if found else None


@lru_cache(maxsize=1)
def _noto_icons(package: Path) -> dict[str, str]:
    names = json.loads((package / "chars.json").read_text(encoding="utf-8"))
    collection = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    side = collection.get("height", 16)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
    icons = collection["icons"]
    return {code: f"{opening}{icons[name]['body']}</svg>" for code, name in names.items() if name in icons}


def cut_out(drawing: Image.Image, side: int) -> Image.Image:
    """Cut transparent margins off and scale the longer side to `side` pixels."""
    box = drawing.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    drawing = drawing.crop(box)
    scale = side / max(drawing.size)
    return drawing.resize(
        [max(1, round(length * scale)) for length in drawing.size], Image.Resampling.LANCZOS
    )


def build(chosen: list[dict], folder: Path, side: int, lossless: bool) -> tuple[Concept, ...]:
    """Make a sprite folder: fetch the sets, draw every chosen concept in every style that has all of it.

    Args:
        chosen: entries {"name", "codes", "synonyms"}, and "held_out" where something is.
        folder: where `sprites.json` and `<style>.webp` go. side: of a drawing, in pixels.
        lossless: keep every pixel as it is drawn; otherwise colours are compressed, outlines never.
    """
    codes = [code for entry in chosen for code in entry["codes"]]
    drawn: dict[str, set[str]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for source in SOURCES:
            package = fetch_package(source, Path(scratch))
            drawings = {code: read_drawing(source, package, code) for code in codes}
            drawn[source.style] = {code for code, drawing in drawings.items() if drawing is not None}
            sheet = Image.new("RGBA", (COLUMNS * side, -(-len(codes) // COLUMNS) * side))
            for place, drawing in enumerate(drawings.values()):
                if drawing is not None:
                    row, column = divmod(place, COLUMNS)
                    sheet.paste(cut_out(drawing, side), (column * side, row * side))
            sheet.save(
                folder / f"{source.style}.webp", lossless=lossless, exact=lossless, quality=80, method=6
            )
    entries = []
    for entry in chosen:
        styles = [style for style, found in drawn.items() if found.issuperset(entry["codes"])]
        entries.append({**entry, "styles": styles})
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries if entry["styles"])
    if any(not entry["styles"] for entry in entries):
        raise DataError("no style has " + ", ".join(e["name"] for e in entries if not e["styles"]))
    sources = json.dumps([asdict(source) for source in SOURCES], indent=1)
    header = f'"side": {side}, "lossless": {json.dumps(lossless)}, "sources": {sources}'
    text = f'{{{header},\n"concepts": [\n{lines}\n]}}\n'
    (folder / "sprites.json").write_text(text, encoding="utf-8")
    for function in (load_concepts, load_sheet, load_sprite, places):
        function.cache_clear()
    return load_concepts(folder)


def main(argv: list[str]) -> int:
    """Draw the concepts of a shipped folder anew; needs npm and a network."""
    parser = argparse.ArgumentParser(
        prog="python -m himtok_core.data.build_sprites", description=main.__doc__
    )
    parser.add_argument("world", choices=("mini", "full"), help="whose drawings")
    parser.add_argument("--out", type=Path, help="folder (default: the shipped one)")
    options = parser.parse_args(argv)
    folder = options.out or FOLDER / options.world
    listed = json.loads((FOLDER / options.world / "sprites.json").read_text(encoding="utf-8"))
    try:
        concepts = build(listed["concepts"], folder, listed["side"], listed["lossless"])
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    drawings = sum(len(concept.styles) * len(concept.codes) for concept in concepts)
    print(f"{drawings} drawings of {len(concepts)} concepts in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
