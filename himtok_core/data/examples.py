"""The example pictures that ship in `assets/examples`: chosen scenes, drawn large.

`python -m himtok_core.data.examples` draws them again. Training never sees their seeds.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from .export import describe
from .scenes import HELD_OUT_SEED, Scene, World, make_scene

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
SIZES = (0.25, 0.42)  # of objects; larger ones would be blown up beyond the sprites' own 128 pixels


@dataclass(frozen=True)
class Example:
    """file: name of the picture. seed: of its scene, counted from HELD_OUT_SEED. size: (width, height)."""

    file: str
    seed: int
    size: tuple[int, int]

    def scene(self) -> Scene:
        """The scene, drawn."""
        return make_scene(HELD_OUT_SEED + self.seed, World(sizes=SIZES), self.size)


EXAMPLES = (
    Example("apple_and_tree.png", 700_023, (640, 480)),
    Example("two_doughnuts.png", 700_025, (640, 480)),
    Example("two_elephants.png", 701_012, (480, 640)),
    Example("panda_and_pig.png", 701_027, (480, 640)),
    Example("cactus.png", 702_013, (768, 432)),
    Example("lion_and_pizza.png", 702_028, (768, 432)),
    Example("two_red_rings.png", 703_033, (560, 560)),
    Example("birthday.png", 703_044, (560, 560)),
)


def write(folder: Path = DEFAULT_FOLDER) -> None:
    """Draw every example into `folder`; `truth.json` holds what `export.describe` says of each."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for example in EXAMPLES:
        scene = example.scene()
        scene.picture.save(folder / example.file, optimize=True)
        truth[example.file] = describe(scene)
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
