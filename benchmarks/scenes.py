"""How fast training data is made: scenes decided, drawn, and talked about.

`python benchmarks/scenes.py --world full` prints one JSON line; README.md beside this file explains it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout without installing

from mini import processor_name

from himtok_core.data.follow_ups import MOST_TURNS, converse
from himtok_core.data.layouts import make_layout
from himtok_core.data.scenes import render
from himtok_core.data.world import WORLDS


def per_second(step: Callable[[], int]) -> float:
    """How many things a step makes a second; it returns their number."""
    began = time.perf_counter()
    made = step()
    return round(made / (time.perf_counter() - began), 1)


def main() -> None:
    """Measures each step on its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=sorted(WORLDS), default="mini")
    parser.add_argument("--count", type=int, default=200, help="scenes (%(default)s)")
    options = parser.parse_args()
    world = WORLDS[options.world]()
    layouts = [make_layout(seed, world) for seed in range(options.count)]  # all drawings are read by now
    scenes = [render(layout, world) for layout in layouts]

    def talk() -> int:
        rng = np.random.default_rng(0)
        return sum(len(converse(scene, rng, world, MOST_TURNS)) for scene in scenes)

    line = {
        "world": options.world,
        "layouts_per_second": per_second(
            lambda: len([make_layout(seed, world) for seed in range(options.count)])
        ),
        "pictures_per_second": per_second(lambda: len([render(layout, world) for layout in layouts])),
        "questions_per_second": per_second(talk),
        "machine": processor_name(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
