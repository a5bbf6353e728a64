"""Measuring models: one task for each benchmark, run as `python -m himtok_core evaluate TASK`."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from ..data.world import WORLDS
from ..errors import HimtokError
from .task import FIELD, PROTOCOLS, Task

# Task -> module and class, imported when it is asked for.
TASKS = {
    "res": "referring.ReferringSegmentation",
    "gres": "referring.GeneralizedSegmentation",
    "reasonseg": "reasoning.ReasoningSegmentation",
    "ovseg": "vocabulary.OpenVocabularySegmentation",
    "rec": "grounding.Grounding",
    "map": "map.MaskPerception",
    "pope": "pope.Pope",
    "mme": "mme.Mme",
    "vqav2": "vqav2.VqaV2",
    "tokenizer": "round_trip.RoundTrip",
}
REFINE_HELP = "a SAM (file, folder or hub id) that draws every mask anew before it is scored"


def main(argv: list[str] | None = None) -> int:
    """Runs one task; scores go to standard output, progress to standard error.

    Returns the exit status: 0, or 2 with one line on standard error if the input is bad.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m himtok_core evaluate", description=__doc__)
    commands = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    scenes = commands.add_parser("scenes", help="questions about drawn scenes that training never saw")
    scenes.add_argument("--model", default="assets/himtok-mini", help="folder or hub id (%(default)s)")
    scenes.add_argument("--device", help="cpu, cuda, mps; the accelerator if there is one by default")
    scenes.add_argument("--count", type=_positive, default=200, help="about how many questions (%(default)s)")
    scenes.add_argument("--seed", type=_natural, default=0, help="first of the held-out scenes (%(default)s)")
    scenes.add_argument("--world", choices=sorted(WORLDS), default="mini", help="(%(default)s)")
    scenes.add_argument("--batch", type=_positive, default=8, help="questions asked at once (%(default)s)")
    scenes.add_argument("--refine", metavar="SAM", help=REFINE_HELP)
    scenes.add_argument("--out", type=Path, metavar="DIR", help="where results.json and worst/*.png go")
    # A task's module is light, so all of them can say what they are.
    benchmarks = {name: _task(name) for name in TASKS}
    for name, task in benchmarks.items():
        _add_flags(commands.add_parser(name, help=task.help, description=task.help), task)
    arguments = parser.parse_args(argv)
    try:
        if arguments.task == "scenes":
            from .scene_run import run  # torch is not needed to read a command line

            run(**{name: value for name, value in vars(arguments).items() if name != "task"})
        else:
            _benchmark(benchmarks[arguments.task], arguments)
    except HimtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _task(name: str) -> Task:
    module, kind = TASKS[name].split(".")
    return getattr(import_module(f".{module}", __package__), kind)()


def _add_flags(parser: argparse.ArgumentParser, task: Task) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="the data set, as published")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--model", default="assets/himtok-mini", help="folder or hub id (%(default)s)")
    parser.add_argument("--predictions", type=Path, metavar="FILE",
                        help="score these replies (COCO results, or a run's rows.jsonl) and ask no model")
    parser.add_argument("--device", help="cpu, cuda, mps; the accelerator if there is one by default")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16; what suits the device by default")
    parser.add_argument("--quantization", help="8bit or 4bit")
    parser.add_argument("--max-tiles", type=_positive, help="at most this many tiles a picture")
    parser.add_argument("--refine", metavar="SAM", help=REFINE_HELP)
    parser.add_argument("--mask-tokens", type=_positive, help="tokens of a mask, 1 to 32; the model's choice "
                        "by default")
    parser.add_argument("--max-new-tokens", type=_positive, default=task.max_new_tokens,
                        help="where an answer is cut off (%(default)s)")
    parser.add_argument("--batch", type=_positive, default=8, help="samples asked at once (%(default)s)")
    parser.add_argument("--limit", type=_positive, help="only the first so many samples")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=FIELD,
                        help="the field's convention, or the reference implementation's (%(default)s)")
    parser.add_argument("--bad-data", choices=("skip", "fail"), default="skip",
                        help="leave out and name what cannot be used, or end the run (%(default)s)")
    task.add_arguments(parser)


def _benchmark(task: Task, arguments: argparse.Namespace) -> None:
    from . import runner
    from .rows import to_json

    result = runner.run(task, arguments)
    if result:
        shown = {name: result[name] for name in ("task", "scores", "samples", "scored")}
        print(to_json({**shown, "problems": len(result["problems"]), "out": str(arguments.out)}))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, not {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number of at least 0 is wanted, not {text!r}")
    return int(text)
