"""Building a sprite folder from the three kinds of packages, with an npm that needs no network."""

import base64
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from himtok_core.data import build_sprites, sprites
from himtok_core.errors import DataError

NPM = """#!/bin/sh -e
cp "$NPM_ARCHIVES/$(basename "$3").tgz" ./package.tgz
echo package.tgz
"""
RED_DISC = '<circle cx="16" cy="16" r="8" fill="#f00"/>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{}</svg>'


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages laid out like the three sources: a disc (25cf) in all of them, a bar (2014) in the first."""
    fluent, noto, twemoji = (tmp_path / style for style in ("fluent3d", "noto", "twemoji"))
    (fluent / "assets").mkdir(parents=True)
    Image.new("RGBA", (40, 10), (0, 0, 255, 255)).save(fluent / "assets" / "2014.webp", lossless=True)
    disc = Image.new("RGBA", (64, 64))
    disc.paste((255, 0, 0, 255), (16, 16, 48, 48))
    disc.save(fluent / "assets" / "25cf-fe0f.webp", lossless=True)
    noto.mkdir()
    (noto / "chars.json").write_text(json.dumps({"25cf": "disc"}))
    (noto / "icons.json").write_text(json.dumps({"height": 32, "icons": {"disc": {"body": RED_DISC}}}))
    twemoji.mkdir()
    (twemoji / "25cf.svg").write_text(SVG.format(RED_DISC))
    sources = []
    for source in build_sprites.SOURCES:
        archive = tmp_path / f"{source.package.split('/')[-1]}.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tmp_path / source.style, "package")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        sources.append(replace(source, integrity=f"sha512-{digest}"))
    monkeypatch.setattr(build_sprites, "SOURCES", tuple(sources))
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(NPM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NPM_ARCHIVES", str(tmp_path))
    build_sprites._noto_icons.cache_clear()
    yield
    build_sprites._noto_icons.cache_clear()


@pytest.mark.usefixtures("npm")
def test_a_folder_has_every_style_that_draws_all_of_a_concept(tmp_path: Path) -> None:
    chosen = [
        {"name": "red disc", "codes": ["25cf"], "synonyms": ["disc"], "held_out": "noto"},
        {"name": "bar", "codes": ["2014"], "synonyms": []},
    ]
    folder = tmp_path / "made"
    concepts = build_sprites.build(chosen, folder, side=128, lossless=True)
    assert [(c.name, c.styles, c.held_out) for c in concepts] == [
        ("red disc", ("fluent3d", "noto", "twemoji"), "noto"),
        ("bar", ("fluent3d",), ""),
    ]
    assert concepts == sprites.load_concepts(folder) and concepts[0].synonyms == ("disc",)
    for style in concepts[0].styles:
        drawing = sprites.load_sprite("25cf", style, folder)
        assert drawing.size == (128, 128) and drawing.getpixel((64, 64)) == (255, 0, 0, 255)
    assert sprites.load_sprite("2014", "fluent3d", folder).size == (128, 32)
    listed = json.loads((folder / "sprites.json").read_text(encoding="utf-8"))["sources"]
    assert [entry["integrity"] for entry in listed] == [source.integrity for source in build_sprites.SOURCES]


@pytest.mark.usefixtures("npm")
def test_what_no_style_draws_is_named(tmp_path: Path) -> None:
    chosen = [{"name": "nothing", "codes": ["25cf", "ffff"], "synonyms": []}]
    with pytest.raises(DataError, match="no style has nothing"):
        build_sprites.build(chosen, tmp_path / "made", side=64, lossless=False)


def test_rebuilding_without_npm_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_sprites.main(["mini", "--out", str(tmp_path / "made")]) == 2
    assert capsys.readouterr().err.startswith("error: npm is not installed")
    assert not (tmp_path / "made" / "sprites.json").exists()
