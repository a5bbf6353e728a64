"""The example pictures that ship in `assets/examples`: chosen scenes, drawn large.

`python -m himtok_core.data.examples` draws them again. Training never sees their seeds.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from .export import describe
from .scenes import HELD_OUT_SEED, Scene, World, make_scene

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
SIZES = (0.4, 0.58)  # of objects: within what himtok-mini was trained on


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
    Example("garden.png", 703_011, (560, 560)),
    Example("car_and_cherries.png", 702_005, (720, 480)),
    Example("lion_and_pig.png", 701_017, (480, 640)),
    Example("fruit.png", 700_053, (640, 480)),
    Example("sunflowers.png", 703_057, (560, 560)),
    Example("snowman.png", 701_063, (480, 640)),
    Example("bicycle.png", 703_067, (560, 560)),
    Example("pizza_and_star.png", 701_043, (480, 640)),
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
