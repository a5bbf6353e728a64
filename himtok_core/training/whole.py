"""himtok-mini from nothing in one command: mask tokenizer, vision tower, boxes, everything, and what ships.

Knows the order of the recipes and how the time is shared out. How long a step takes differs a thousandfold
between machines, so each recipe first takes a few steps on the side, and the number of its steps follows.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..data.world import WORLDS
from ..errors import DataError
from . import scene_lmm, tokenizer, vision
from .publish import publish
from .report import write_report
from .run_folder import read_rows

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "assets" / "masks" / "coco_masks.json"
TRIAL_STEPS = 50  # the first half, which warms everything up, is not counted
SPARE = 0.85  # of a recipe's time goes into steps; the rest is for loading, scoring and saving


@dataclass(frozen=True)
class Part:
    """One recipe of the whole: its name, the share of the time that it gets, how it is trained."""

    name: str
    share: float
    train: Callable[[object, Path, float | None], object]
    settings: object


def parts_of(folder: Path, world: str, seed: int, gpu: bool) -> list[Part]:
    """The recipes in their order. A GPU takes batches that would be slow to learn from on a processor."""
    masks, pictures, batch = (256, 128, 64) if gpu else (32, 24, 10)
    photographs = str(PHOTOGRAPHS) if world == "full" else None
    scene = scene_lmm.Settings(
        init=str(folder / "vision"),
        mask_tokenizer=str(folder / "tokenizer" / "model"),
        world=world,
        seed=seed,
        scenes=batch,
        mask_loss_masks=64 if gpu else 10,
    )
    return [
        Part(
            "tokenizer",
            0.25,
            tokenizer.train,
            tokenizer.Settings(batch=masks, seed=seed, world=world, photo_masks=photographs),
        ),
        Part("vision", 0.2, vision.train, vision.Settings(scenes=pictures, seed=seed, world=world)),
        Part("boxes", 0.15, scene_lmm.train, replace(scene, tasks="boxes")),
        Part("everything", 0.4, scene_lmm.train, replace(scene, init=str(folder / "boxes"))),
    ]


def steps_within(rows: list[dict], minutes: float) -> int:
    """How many steps a recipe takes in so many minutes.

    Args:
        rows: the log of its first steps, at least two of them without scores.
    """
    paced = [row for row in rows if "samples" not in row]
    first, last = paced[0], paced[-1]
    pace = (last["step"] - first["step"]) / max(last["seconds"] - first["seconds"], 1e-6)
    return max(1, round(60 * minutes * pace))


def train(folder: Path, world: str, minutes: float, seed: int = 0) -> Path:
    """Train everything; started again, it goes on. What ships is written to `folder/himtok-mini`, what was
    done to `folder/report`.

    Raises:
        DataError: if there is no time at all.
    """
    if minutes <= 0:
        raise DataError(f"--minutes must be above 0, not {minutes}")
    parts = parts_of(folder, world, seed, torch.cuda.is_available())
    for part in parts:
        share, place = part.share * minutes, folder / part.name
        if not (place / "settings.json").exists():
            trial = folder / "trial"
            part.train(replace(part.settings, steps=TRIAL_STEPS), trial, None)
            steps = steps_within(read_rows(trial), SPARE * share)
            shutil.rmtree(trial)
        else:
            steps = json.loads((place / "settings.json").read_text(encoding="utf-8"))["steps"]
        done = [row["step"] for row in read_rows(place)]
        if max(done, default=0) < steps:
            part.train(replace(part.settings, steps=steps), place, share)
    target = folder / "himtok-mini"
    publish(folder / "everything", target, WORLDS[world]())
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
