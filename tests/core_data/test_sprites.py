"""The sprite folder that ships is complete, and a package that is not the pinned one is refused."""

import base64
import hashlib
import itertools
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from himtok_core.data import build_sprites, sprites
from himtok_core.errors import DataError

NPM = """#!/bin/sh -e
cp "$NPM_ARCHIVE" ./package.tgz
echo package.tgz
"""


FOLDERS = pytest.mark.parametrize("folder", [sprites.MINI_FOLDER, sprites.FULL_FOLDER], ids=lambda f: f.name)


@FOLDERS
def test_every_concept_has_all_its_drawings(folder: Path) -> None:
    concepts = sprites.load_concepts(folder)
    opaque = 0
    side = json.loads((folder / "sprites.json").read_text(encoding="utf-8"))["side"]
    assert len(concepts) >= 40 and len({c.name for c in concepts}) == len(concepts)
    for concept in concepts:
        assert concept.styles and set(concept.styles) <= {source.style for source in build_sprites.SOURCES}
        assert concept.name == concept.name.lower() and not concept.name.startswith(("a ", "an ", "the "))
        for code, style in itertools.product(concept.codes, concept.styles):
            drawing = sprites.load_sprite(code, style, folder)
            assert drawing.mode == "RGBA" and max(drawing.size) == side
            low, high = drawing.getchannel("A").getextrema()
            assert high > 128, f"{concept.name} in {style} is empty"
            opaque += low > 128
    assert opaque < 0.01 * len(concepts), "drawings are cut out; only pictures of pictures fill their square"


@FOLDERS
def test_synonyms_lead_to_one_concept_only(folder: Path) -> None:
    """ "apple" for a red apple is fine, the name of another thing as a synonym is not."""
    concepts = sprites.load_concepts(folder)
    names = {concept.name for concept in concepts}
    synonyms = [name for concept in concepts for name in concept.synonyms]
    assert len(set(synonyms)) == len(synonyms) and not names & set(synonyms)


@FOLDERS
def test_a_folder_says_where_its_drawings_are_from(folder: Path) -> None:
    listed = json.loads((folder / "sprites.json").read_text(encoding="utf-8"))["sources"]
    assert {entry["style"] for entry in listed} == {source.style for source in build_sprites.SOURCES}
    assert all(entry["licence"] and entry["integrity"].startswith("sha512-") for entry in listed)


def test_a_folder_without_sprites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sprite folder"):
        sprites.load_concepts(tmp_path)
    (tmp_path / "sprites.json").write_text('{"concepts": [{"name": "cat"}]}')
    with pytest.raises(DataError, match="code"):
        sprites.load_concepts(tmp_path / ".." / tmp_path.name)  # another spelling: results are remembered


def test_a_missing_or_damaged_sheet_is_refused(tmp_path: Path) -> None:
    concepts = [{"name": "cat", "codes": ["1f431"], "synonyms": [], "styles": ["noto"]}]
    (tmp_path / "sprites.json").write_text(json.dumps({"concepts": concepts}))
    with pytest.raises(DataError, match="noto.webp cannot be read"):
        sprites.load_sprite("1f431", "noto", tmp_path)
    with pytest.raises(DataError, match="no drawing 1f436"):
        sprites.load_sprite("1f436", "noto", tmp_path)
    (tmp_path / "twemoji.webp").write_text("not a picture")
    with pytest.raises(DataError, match="twemoji.webp cannot be read"):
        sprites.load_sprite("1f431", "twemoji", tmp_path)
    Image.new("RGBA", (100, 3)).save(tmp_path / "fluent3d.webp")
    with pytest.raises(DataError, match="100 x 3, too small for 1 drawings"):
        sprites.load_sprite("1f431", "fluent3d", tmp_path)
    Image.new("RGBA", (320, 10)).save(tmp_path / "empty.webp")
    with pytest.raises(DataError, match="no drawing 1f431 in the style empty"):
        sprites.load_sprite("1f431", "empty", tmp_path)


def test_cut_out_leaves_no_margin() -> None:
    drawing = Image.new("RGBA", (300, 200))
    drawing.paste((255, 0, 0, 255), (40, 50, 140, 100))
    cut = build_sprites.cut_out(drawing, 128)
    assert cut.size == (128, 64) and cut.getpixel((64, 32)) == (255, 0, 0, 255)


def test_a_package_is_unpacked_if_it_is_the_pinned_one(npm: Path, tmp_path: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(npm.read_bytes()).digest()).decode()
    folder = build_sprites.fetch_package(_source(f"sha512-{digest}"), tmp_path / "scratch")
    assert (folder / "1f431.svg").read_text() == "<svg/>"


def test_another_package_is_refused(npm: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="checksum"):
        build_sprites.fetch_package(_source("sha512-AAAA"), tmp_path / "scratch")
    assert not (tmp_path / "scratch" / "twemoji").exists(), "nothing of it may be unpacked"


def test_npm_that_fails_is_reported(npm: Path, tmp_path: Path) -> None:
    npm.unlink()
    with pytest.raises(DataError, match="npm could not fetch cats@1.0.0"):
        build_sprites.fetch_package(_source("sha512-AAAA"), tmp_path / "scratch")


def test_a_machine_without_npm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm is not installed"):
        build_sprites.fetch_package(_source("sha512-AAAA"), tmp_path)


def _source(integrity: str) -> build_sprites.SpriteSource:
    return build_sprites.SpriteSource("twemoji", "cats@1.0.0", integrity, "CC BY 4.0")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that hands out one archive, and the archive."""
    content = tmp_path / "1f431.svg"
    content.write_text("<svg/>")
    archive = tmp_path / "archive.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, "package/1f431.svg")
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM)
    program.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NPM_ARCHIVE", str(archive))
    return archive
