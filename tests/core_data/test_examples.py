"""The example pictures that ship: what `truth.json` and the README say is what the pictures show."""

import json

import numpy as np
import pytest
from PIL import Image

from himtok_core import geometry
from himtok_core.data.examples import DEFAULT_FOLDER, EXAMPLES, Example
from himtok_core.data.export import describe
from himtok_core.data.scenes import HELD_OUT_SEED

TRUTH = json.loads((DEFAULT_FOLDER / "truth.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.file)
def test_an_example_is_the_scene_of_its_seed(example: Example) -> None:
    scene = example.scene()
    assert scene.seed >= HELD_OUT_SEED
    assert describe(scene) == TRUTH[example.file]
    with Image.open(DEFAULT_FOLDER / example.file) as shipped:
        assert shipped.size == example.size and shipped.mode == "RGB"
        difference = np.abs(np.asarray(shipped).astype(int) - np.asarray(scene.picture))
    assert difference.mean() < 1  # JPEG compression in a scene may differ a little between machines


def test_boxes_and_masks_of_the_truth_agree() -> None:
    for objects in TRUTH.values():
        for item in objects:
            mask = geometry.rle_to_mask(item["mask"])
            assert list(geometry.box_of_mask(mask)) == item["box"]


def test_every_example_is_written_down() -> None:
    files = [example.file for example in EXAMPLES]
    assert list(TRUTH) == files and len(set(files)) == len(files) >= 6
    assert {path.name for path in DEFAULT_FOLDER.glob("*.png")} == set(files)
    readme = (DEFAULT_FOLDER / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES:
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| {example.file} ")]
        width, height = example.size
        assert f"| {width} x {height} |" in row and f"| {example.seed} |" in row
        kinds = {item["name"] for item in TRUTH[example.file]}
        assert not [name for name in kinds if name not in row]
