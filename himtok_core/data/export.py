"""Drawn scenes as files that other programs read: pictures, COCO annotations, conversations line by line.

Knows the layout of the files. What is drawn and what is asked is left to `scenes` and `questions`.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np

from .. import geometry
from ..errors import DataError
from .follow_ups import MOST_TURNS, converse
from .questions import Question
from .scenes import Scene, make_scene
from .world import WORLDS, World

SIDES = (64, 2048)  # smallest and largest side of a picture in pixels
SOURCES = "Drawn from Fluent Emoji (MIT), Noto Emoji (Apache-2.0) and Twemoji (CC BY 4.0); see assets/sprites"


def describe(scene: Scene) -> list[dict]:
    """The objects of a scene, back to front, ready for JSON.

    Returns:
        {"name": text, "box": [x0, y0, x1, y1] in pixels, "mask": compressed COCO RLE} each.
    """
    return [
        {"name": item.name, "box": list(item.box), "mask": geometry.mask_to_rle(item.mask)}
        for item in scene.objects
    ]


def categories(world: World) -> list[dict]:
    """Everything a world can show as COCO categories; the ids are the same for every export of this world."""
    kinds = [(concept.name, "drawing") for concept in world.concepts]
    kinds += [(name, "figure") for name in world.figures]
    return [{"id": i, "name": name, "supercategory": kind} for i, (name, kind) in enumerate(kinds, 1)]


def conversation(image: str, scene: Scene, questions: list[Question]) -> dict:
    """Questions and their answers as a line of the usual instruction data.

    Returns:
        "image", "width", "height"; "conversations": two turns a question, where `<image>` stands for the
        picture and `<mask>` for a mask run; "masks": COCO RLE of each `<mask>` in the order of the text;
        "kinds": of each question; "mask_tokens": of each question the tokens of its answer's runs where it
        asks for a number, else null.
    """
    width, height = scene.size
    masks = [mask for question in questions for mask in (*question.prompt_masks, *question.answer_masks)]
    turns = []
    for question in questions:
        opening = "" if turns else "<image>\n"
        turns += [
            {"from": "human", "value": f"{opening}{question.prompt}"},
            {"from": "gpt", "value": question.answer},
        ]
    return {
        "image": image,
        "width": width,
        "height": height,
        "kinds": [question.kind for question in questions],
        "conversations": turns,
        "masks": [geometry.mask_to_rle(mask) for mask in masks],
        "mask_tokens": [question.mask_tokens for question in questions],
    }


def export(folder: Path, seeds: range, world: World, size: tuple[int, int] | None) -> dict[str, int]:
    """Write `images/SEED.png`, `annotations.json` (COCO) and `conversations.jsonl`.

    Args:
        folder: made if it is not there. seeds: one scene each.
        size: (width, height) of every picture; None lets each scene choose its own.

    Returns:
        How many "images", "annotations" and "conversations" were written.

    Raises:
        DataError: if something cannot be written.
    """
    kinds = categories(world)
    ids = {kind["name"]: kind["id"] for kind in kinds}
    images, annotations, lines = [], [], []
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds, 1):
            scene = make_scene(seed, world, size)
            name = f"{seed}.png"
            scene.picture.save(folder / "images" / name, optimize=True)
            width, height = scene.size
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for item in scene.objects:
                x0, y0, x1, y1 = item.box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": ids[item.name],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": item.area,
                        "segmentation": geometry.mask_to_rle(item.mask),
                        "iscrowd": 0,
                    }
                )
            for questions in _conversations(scene, world):
                lines.append(json.dumps(conversation(name, scene, questions)))
            if number % 100 == 0:
                print(f"{number} of {len(seeds)} scenes", file=sys.stderr, flush=True)
        info = {"description": SOURCES}
        coco = {"info": info, "images": images, "annotations": annotations, "categories": kinds}
        (folder / "annotations.json").write_text(json.dumps(coco) + "\n", encoding="utf-8")
        (folder / "conversations.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise DataError(f"The scenes cannot be written to {folder}: {error.strerror or error}.") from error
    return {"images": len(images), "annotations": len(annotations), "conversations": len(lines)}


def _conversations(scene: Scene, world: World) -> list[list[Question]]:
    """One of up to six turns, or none where nothing can be asked."""
    rng = np.random.default_rng([scene.seed, 2])
    turns = converse(scene, rng, world, int(rng.integers(1, MOST_TURNS + 1)))
    return [turns] if turns else []


def main(argv: list[str]) -> int:
    """`python -m himtok_core scenes`: draws scenes; what was written as JSON on standard output.

    Raises:
        DataError: for wrong arguments, or if something cannot be written.
    """
    parser = _Parser(
        prog="python -m himtok_core scenes",
        description="Draw made-up pictures with masks, questions and answers.",
    )
    parser.add_argument("--count", type=_number, required=True, help="number of pictures")
    parser.add_argument("--seed", type=_number, default=0, help="of the first picture; the others count up")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--world", choices=sorted(WORLDS), default="mini", help="(%(default)s)")
    parser.add_argument("--size", type=_size, help="WIDTHxHEIGHT (default: various)")
    options = parser.parse_args(argv)
    seeds = range(options.seed, options.seed + options.count)
    written = export(options.out, seeds, WORLDS[options.world](), options.size)
    print(json.dumps({"out": str(options.out), **written}))
    return 0


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are the project's own kind of error."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message} (see {self.prog} --help)")


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,12}", text):
        raise argparse.ArgumentTypeError(f"must be a number from 0 up, not {text}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split("x")] if re.fullmatch("[0-9]{1,5}x[0-9]{1,5}", text) else []
    low, high = SIDES
    if not sides or not all(low <= side <= high for side in sides):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT with sides of {low} to {high}, not {text}")
    return sides[0], sides[1]
