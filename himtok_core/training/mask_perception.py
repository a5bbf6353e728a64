"""`python -m himtok_core data mask-perception`: makes multiple-choice items about masks.

The data set is Mask Perception (the supplement, section E).

Knows arguments and sources. Items are made by `data.mask_choices`, files are written by
`data.mask_perception`; a model is only needed to write masks as its tokens.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..data.described_objects import DescribedObject, from_references, from_scene
from ..data.mask_choices import build_choices, statistics
from ..data.mask_perception import MASK, write_items
from ..data.problems import DataProblems
from ..data.refcoco import read_references
from ..data.scenes import HELD_OUT_SEED, World, make_scene
from ..errors import DataError

if TYPE_CHECKING:
    from ..chat import Chat

PICTURES = "pictures"  # folder of drawn scenes beside the file


def main(argv: list[str]) -> int:
    """Writes the file and prints its statistics (the supplement, table 10) as JSON.

    Raises:
        DataError: for wrong arguments, or if a source cannot be used, nothing comes of it, or the file cannot
            be written.
    """
    options = _parser().parse_args(argv)
    multiple = options.choices == "multiple"
    chat = _chat(options)
    problems = DataProblems(fatal=options.bad_data == "fail")
    rng = np.random.default_rng(options.seed)
    choices = list(build_choices(_objects(options, chat, problems), options.count, multiple, rng))
    if not choices:
        raise DataError("No item can be made: an item needs four expressions of which three do not fit.")
    write_items(options.out, choices, multiple, rng, _encoder(chat))
    sources = options.refs or [f"{options.scenes} drawn scenes"]
    facts = {"out": str(options.out), "choices": options.choices, "source": sources}
    print(json.dumps({**facts, **statistics(choices), "problems": len(problems)}))
    return 0


def _objects(
    options: argparse.Namespace, chat: "Chat | None", problems: DataProblems
) -> Iterator[DescribedObject]:
    if options.refs:
        for source in options.refs:
            path, splits = _splits(source)
            for split in splits:
                found = read_references(path, problems, split, options.instances)
                yield from from_references(found, options.images, problems)
        return
    world = World() if chat is None else _world_of(chat)
    folder = options.out.parent / PICTURES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Test items show scenes that no training sees.
        first = options.seed + (0 if options.choices == "multiple" else HELD_OUT_SEED)
        for number in range(first, first + options.scenes):
            scene = make_scene(number, world)
            scene.picture.save(folder / f"{number}.png", optimize=True)
            yield from from_scene(scene, f"{PICTURES}/{number}.png")
    except OSError as error:
        raise DataError(f"The scenes cannot be written to {folder}: {error.strerror or error}.") from error


def _splits(source: str) -> tuple[Path, list[str | None]]:
    """ "refs(unc).p@val,testA" -> the file and its splits; [None] stands for all of it."""
    file, at, names = source.rpartition("@")
    if not at or Path(source).exists():
        return Path(source), [None]
    return Path(file), names.split(",")


def _chat(options: argparse.Namespace) -> "Chat | None":
    if not options.model:
        return None
    from ..chat import load  # torch, which nothing else here needs

    return load(options.model, device=options.device)


def _world_of(chat: "Chat") -> World:
    from ..evaluation.scenes import world_of

    return world_of(chat.concepts)


def _encoder(chat: "Chat | None") -> Callable[[np.ndarray], str] | None:
    if chat is None:
        return None
    from ..evaluation.scenes import with_masks

    print(f"mask tokens of {chat.name}", file=sys.stderr)
    return lambda mask: with_masks(MASK, (mask,), chat.mask_tokenizer)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m himtok_core data mask-perception",
        description="Make multiple-choice items: which expression means the object under a mask?",
    )
    # fmt: off
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--refs", nargs="+", metavar="FILE[@SPLIT,...]",
                        help="referring expressions: 'refs(unc).p@val,testA', PSALM's JSON; several at once")
    source.add_argument("--scenes", type=_positive, metavar="COUNT", help="draw so many scenes instead")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE",
                        help="mask_perception.json as published, or a .jsonl of conversations to train on")
    parser.add_argument("--choices", choices=("single", "multiple"), default="single",
                        help="one right option, for tests, or one to three, for training (%(default)s)")
    parser.add_argument("--instances", type=Path, metavar="FILE", help="COCO's instances.json")
    parser.add_argument("--images", type=Path, metavar="DIR", help="check that the pictures are there")
    parser.add_argument("--count", type=_positive, help="at most so many items (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="decides everything (%(default)s)")
    parser.add_argument("--model", help="write masks as this model's tokens (default: <mask> and RLE)")
    parser.add_argument("--device", help="of the model; the accelerator if there is one by default")
    parser.add_argument("--bad-data", choices=("skip", "fail"), default="skip",
                        help="objects that cannot be used are left out, or end the command (%(default)s)")
    # fmt: on
    return parser


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are the project's own kind of error."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message} (see {self.prog} --help)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, not {text!r}")
    return int(text)
