"""himtok-mini from nothing in one command: mask tokenizer, vision tower, boxes, everything, and what ships.

Knows the order of the recipes and how the time is shared out. How long a step takes differs a thousandfold
between machines, so the schedule of every recipe follows the clock.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.world import WORLDS
from ..errors import DataError
from . import scene_lmm, tokenizer, vision
from .publish import publish
from .report import write_report

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "assets" / "masks" / "coco_masks.json"


@dataclass(frozen=True)
class Part:
    """One recipe of the whole: its name and how it is trained."""

    name: str
    train: Callable[[object, Path], object]
    settings: object


def parts_of(folder: Path, world: str, seed: int, minutes: float, gpu: bool) -> list[Part]:
    """The recipes in their order. A GPU takes batches that would be slow to learn from on a processor."""
    masks, pictures, scenes = (1024, 256, 256) if gpu else (32, 24, 10)
    photographs = str(PHOTOGRAPHS) if world == "full" else None
    scene = scene_lmm.Settings(
        init=str(folder / "vision"),
        mask_tokenizer=str(folder / "tokenizer" / "model"),
        world=world,
        seed=seed,
        scenes=scenes,
        mask_loss_masks=128 if gpu else 10,
    )
    return [
        Part(
            "tokenizer",
            tokenizer.train,
            tokenizer.Settings(
                schedule_minutes=0.25 * minutes,
                batch=masks,
                seed=seed,
                world=world,
                photo_masks=photographs,
            ),
        ),
        Part(
            "vision",
            vision.train,
            vision.Settings(schedule_minutes=0.2 * minutes, scenes=pictures, seed=seed, world=world),
        ),
        Part("boxes", scene_lmm.train, replace(scene, tasks="boxes", schedule_minutes=0.15 * minutes)),
        Part(
            "everything",
            scene_lmm.train,
            replace(scene, init=str(folder / "boxes"), schedule_minutes=0.4 * minutes),
        ),
    ]


def train(folder: Path, world: str, minutes: float, seed: int = 0) -> Path:
    """Train everything; started again, it goes on. What ships is written to `folder/himtok-mini`, what was
    done to `folder/report`.

    Raises:
        DataError: if there is no time at all, or a folder was begun with another time.
    """
    if minutes <= 0:
        raise DataError(f"--minutes must be above 0, not {minutes}")
    parts = parts_of(folder, world, seed, minutes, torch.cuda.is_available())
    for part in parts:
        done = folder / part.name / "done"
        if not done.exists():
            part.train(part.settings, folder / part.name)
            done.touch()
    target = folder / "himtok-mini"
    publish(folder / parts[-1].name, target, WORLDS[world]())
    write_report([folder / part.name for part in parts], folder / "report")
    return target


def main(argv: list[str]) -> int:
    """`python -m himtok_core train mini`: one JSON line with where the model is, on standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m himtok_core train mini", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing one goes on")
    parser.add_argument("--minutes", type=float, required=True, help="how long all of it may take")
    parser.add_argument("--world", choices=sorted(WORLDS), default="mini", help="to learn (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (%(default)s)")
    options = parser.parse_args(argv)
    target = train(options.out, options.world, options.minutes, options.seed)
    print(json.dumps({"folder": str(target), "bytes": sum(f.stat().st_size for f in target.iterdir())}))
    return 0
