"""Measuring models: one task for each benchmark, run as `python -m himtok_core evaluate TASK`."""

import argparse
import statistics
import sys
from pathlib import Path

from ..errors import DataError, HimtokError


def main(argv: list[str] | None = None) -> int:
    """Runs one task; the table goes to standard output, progress to standard error.

    Returns the exit status: 0, or 2 with one line on standard error if the input is bad.
    """
    parser = argparse.ArgumentParser(prog="python -m himtok_core evaluate", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    scenes = tasks.add_parser("scenes", help="questions about drawn scenes that training never saw")
    scenes.add_argument("--model", default="assets/himtok-mini", help="folder or hub id (%(default)s)")
    scenes.add_argument("--device", help="cpu, cuda, mps; the accelerator if there is one by default")
    scenes.add_argument("--count", type=_positive, default=200, help="about how many questions (%(default)s)")
    scenes.add_argument("--seed", type=_natural, default=0, help="first of the held-out scenes (%(default)s)")
    scenes.add_argument("--out", type=Path, metavar="DIR", help="where results.json and worst/*.png go")
    arguments = parser.parse_args(argv)
    try:
        _scenes(arguments.model, arguments.device, arguments.count, arguments.seed, arguments.out)
    except HimtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _scenes(model: str, device: str | None, count: int, seed: int, out: Path | None) -> None:
    # What needs torch is loaded once the command line is known to be right.
    from ..chat import load
    from . import report, scenes

    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"The results cannot be written to {out}: {error}") from error
    chat = load(model, device=device)
    world = scenes.world_of(chat.concepts)
    tokenizer = scenes.round_trip(chat.mask_tokenizer, world, scenes=max(20, count // 2), seed=seed)
    print(f"tokenizer: {tokenizer.count} masks done", file=sys.stderr)
    outcomes = []
    for scene, question in scenes.held_out_questions(world, count, seed):
        outcomes.append(scenes.answer(chat, scene, question))
        if len(outcomes) % 20 == 0:
            print(f"questions: {len(outcomes)} of about {count} done", file=sys.stderr)
    kinds = scenes.summarise(outcomes)
    print(report.markdown(kinds, tokenizer))
    median = statistics.median(outcome.seconds for outcome in outcomes)
    print(f"\n{len(outcomes)} questions, median time of a reply {median:.2f} s.")
    if out is not None:
        header = {"model": chat.name, "count": len(outcomes), "seed": seed, "median_seconds": median}
        report.write_json(out / "results.json", header, outcomes, kinds, tokenizer)
        report.write_worst(out / "worst", outcomes, world)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, not {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number of at least 0 is wanted, not {text!r}")
    return int(text)
