"""The command line: one picture, one mask or one checkpoint at a time.

Knows arguments, files and exit codes. JSON goes to standard output, progress to standard error; bad input
ends with exit code 2 and one line. What takes long to import is imported by the command that needs it.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from PIL import Image

from . import geometry, markup, prompts
from .errors import CheckpointError, HimtokError, MaskError
from .images import open_picture

if TYPE_CHECKING:
    from .mask_tokenizer import MaskTokenizer

# Offline work: a command -> the module whose main(argv) does it.
DELEGATED = {
    ("scenes",): "data.export",
    ("train", "tokenizer"): "training.tokenizer",
    ("train", "vision"): "training.vision",
    ("train", "start"): "training.start",
    ("train", "lmm"): "training.lmm",
    ("train", "scene-lmm"): "training.scene_lmm",
    ("train", "mini"): "training.whole",
    ("train", "sam"): "training.sam",
    ("train", "publish"): "training.publish",
    ("train", "report"): "training.report",
    ("data", "mask-perception"): "training.mask_perception",
    ("evaluate",): "evaluation",
}
COLORS = np.array(
    [(230, 57, 70), (42, 157, 143), (69, 123, 255), (244, 162, 97), (155, 93, 229), (6, 174, 213)]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, or 2 for bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        for command, module in DELEGATED.items():
            if tuple(argv[: len(command)]) == command:
                return import_module(f".{module}", __package__).main(argv[len(command) :]) or 0
        arguments = _parser().parse_args(argv)
        print(json.dumps(arguments.run(arguments), ensure_ascii=False))
    except HimtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def default_model() -> str:
    """HIMTOK_MODEL if it is set, else the himtok-mini that lies beside the package.

    Raises CheckpointError if there is neither.
    """
    if os.environ.get("HIMTOK_MODEL"):
        return os.environ["HIMTOK_MODEL"]
    folder = Path(__file__).resolve().parent.parent / "assets" / "himtok-mini"
    if not folder.is_dir():
        raise CheckpointError(f"There is no model in {folder}: name one with --model or HIMTOK_MODEL.")
    return str(folder)


def default_refiner() -> str:
    """The sam-mini that lies beside the package. Raises CheckpointError if it is not there."""
    folder = Path(__file__).resolve().parent.parent / "assets" / "sam-mini"
    if not folder.is_dir():
        raise CheckpointError(f"There is no SAM in {folder}: name one with --refine SAM.")
    return str(folder)


def segment(arguments: argparse.Namespace) -> dict:
    """Asks for one phrase and writes a mask for every object, and all of them over the picture."""
    from .chat import load

    picture = open_picture(arguments.image)
    question = prompts.render("segment", phrase=arguments.phrase)
    chat = load(
        arguments.model or default_model(),
        device=arguments.device,
        dtype=arguments.dtype,
        quantization=arguments.quantization,
        device_map=arguments.device_map,
        max_tiles=arguments.max_tiles,
    )
    refiner = None
    if arguments.refine is not None:
        from .refine import SamRefiner, refine_reply

        refiner = SamRefiner.from_pretrained(arguments.refine or default_refiner(), arguments.device)
    _say(f"{chat.name} on {chat.model.device}: {question}")
    reply = chat.start(picture).ask(question, mask_tokens=arguments.mask_tokens, expects_mask=True)
    refinement = None
    if refiner is not None:
        began = time.perf_counter()
        reply = refine_reply(refiner, picture, reply)
        refinement = {"model": refiner.name, "seconds": time.perf_counter() - began}
    folder, stem = _folder(arguments.out), Path(arguments.image).stem
    overlay, objects = np.asarray(picture).copy(), []
    for index, item in enumerate(reply.objects):
        shown = {"label": item.label, "box": item.box, "tokens": item.tokens, "mask": None, "rle": None}
        if item.mask is not None:
            path = folder / f"{stem}_mask_{index + 1}.png"
            _save_mask(item.mask, path)
            shown |= {"mask": str(path), "rle": geometry.mask_to_rle(item.mask), "area": int(item.mask.sum())}
            overlay[item.mask] = (overlay[item.mask] + COLORS[index % len(COLORS)]) // 2
        objects.append(shown)
    overlay_path = folder / f"{stem}_overlay.png"
    _save(Image.fromarray(overlay), overlay_path)
    return {
        "question": question,
        "text": reply.text,
        "size": reply.size,
        "objects": objects,
        "overlay": str(overlay_path),
        "problems": reply.problems,
        "timing": vars(reply.timing),
        "refinement": refinement,
    }


def tokenize(arguments: argparse.Namespace) -> dict:
    """A mask file -> its mask tokens."""
    import torch

    mask = _read_mask(arguments.mask)
    tokenizer = _mask_tokenizer(arguments)
    stretched = geometry.stretch_mask(mask, tokenizer.config.mask_size)  # as the tokenizer was trained
    tokens = tokenizer.encode(torch.from_numpy(stretched)[None])[0].tolist()
    return {"tokens": tokens, "text": markup.mask_run(tokens), "size": [mask.shape[1], mask.shape[0]]}


def detokenize(arguments: argparse.Namespace) -> dict:
    """Mask tokens -> a mask file."""
    import torch

    tokens = _read_tokens(" ".join(arguments.tokens))
    tokenizer = _mask_tokenizer(arguments)
    probability = tokenizer.decode(torch.tensor([tokens]))[0].float().cpu().numpy()
    size = arguments.size or (tokenizer.config.mask_size, tokenizer.config.mask_size)
    mask = geometry.mask_from_probability(probability, size)
    path = Path(arguments.out)
    _folder(path.parent)
    _save_mask(mask, path)
    return {
        "tokens": tokens,
        "mask": str(path),
        "size": list(size),
        "area": int(mask.sum()),
        "rle": geometry.mask_to_rle(mask),
    }


def convert(arguments: argparse.Namespace) -> dict:
    """A checkpoint in the released format -> the same in our own."""
    from .generation.loading import find_checkpoint
    from .lmm.released_format import convert

    source = find_checkpoint(arguments.source)
    _say(f"converting {source}")
    # A copy of the hub's lies in a folder without a telling name.
    convert(source, arguments.target, None if Path(arguments.source).is_dir() else arguments.source)
    return {"source": str(source), "target": arguments.target}


class _Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m himtok_core", description="Ask a model that speaks in masks.")
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=_Parser)
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", help="folder or hub id (default: HIMTOK_MODEL, else assets/himtok-mini)")
    model.add_argument("--device", help="cpu, cuda, cuda:1 or mps (default: the accelerator if there is one)")
    model.add_argument("--dtype", help="float32, bfloat16 or float16 (default: what suits the device)")

    command = commands.add_parser("segment", parents=[model], help="picture and phrase -> masks")
    command.add_argument("image", help="picture file")
    command.add_argument("phrase", help="what to find, for example 'red apple'")
    command.add_argument("--out", required=True, help="folder for the masks and the overlay")
    command.add_argument(
        "--mask-tokens", type=_count, help="tokens of a mask, 1 to 32 (default: the model's)"
    )
    command.add_argument(
        "--refine",
        nargs="?",
        const="",
        metavar="SAM",
        help="sharpen the masks with a SAM: file, folder or hub id (without a value: assets/sam-mini)",
    )
    command.add_argument("--quantization", help="8bit or 4bit")
    command.add_argument("--device-map", help="auto: over all GPUs and the processor; instead of --device")
    command.add_argument("--max-tiles", type=int, help="at most this many tiles of the picture")
    command.set_defaults(run=segment)

    command = commands.add_parser("tokenize", parents=[model], help="mask file -> mask tokens")
    command.add_argument("mask", help="picture file, bright where the mask is")
    command.set_defaults(run=tokenize)

    command = commands.add_parser("detokenize", parents=[model], help="mask tokens -> mask file")
    command.add_argument(
        "tokens", nargs="+", help="a run <|mt_start|>...<|mt_end|>, or numbers from 0 to 1023"
    )
    command.add_argument("--out", required=True, help="PNG file to write")
    command.add_argument("--size", type=_size, help="WIDTHxHEIGHT in pixels (default: the tokenizer's own)")
    command.set_defaults(run=detokenize)

    command = commands.add_parser("convert", help="checkpoint in the released format -> our own format")
    command.add_argument("source", help="folder or hub id")
    command.add_argument("target", help="folder to write")
    command.set_defaults(run=convert)

    # These never get here, they are listed for --help.
    commands.add_parser("scenes", help="draw made-up pictures with masks, questions and answers")
    recipes = [command[1] for command in DELEGATED if command[0] == "train"]
    commands.add_parser("train", help="train a part of himtok-mini, or publish a run").add_argument(
        "recipe", choices=recipes
    )
    commands.add_parser("data", help="make a data set from others").add_argument(
        "kind", choices=["mask-perception"]
    )
    commands.add_parser("evaluate", help="measure a model on a task")
    return parser


def _mask_tokenizer(arguments: argparse.Namespace) -> "MaskTokenizer":
    from .chat import load

    chat = load(arguments.model or default_model(), device=arguments.device, dtype=arguments.dtype)
    _say(f"mask tokenizer of {chat.name} on {chat.model.device}")
    return chat.mask_tokenizer


def _read_mask(path: str) -> np.ndarray:
    """A mask file as bool [H, W]: what is brighter than half of its brightest pixel, be that 1 or 255."""
    grey = np.asarray(open_picture(path).convert("L"))
    return grey > grey.max() / 2


def _read_tokens(text: str) -> list[int]:
    """A mask run or plain numbers -> mask tokens. Raises MaskError for anything else."""
    spans = markup.parse(text)
    if len(spans) == 1 and isinstance(spans[0], markup.MaskSpan):
        return list(spans[0].tokens)
    problems = [span.problem for span in spans if span.problem]
    numbers = [part for part in re.split(r"[\s,]+", text.strip("[] ")) if part]
    if problems or not all(number.isdecimal() for number in numbers):
        reason = problems[0] if problems else "They are a run <|mt_start|>...<|mt_end|> or numbers."
        raise MaskError(f"These are no mask tokens: {text[:80]}. {reason}")
    tokens = [int(number) for number in numbers]
    markup.mask_run(tokens)  # refuses a wrong count or range
    return tokens


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= markup.MAX_RUN:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {markup.MAX_RUN}, not {text}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if sides is None:
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT such as 640x480, not {text}")
    return int(sides[1]), int(sides[2])


def _folder(path: str | Path) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HimtokError(f"The folder {path} cannot be made: {error.strerror}.") from error
    return Path(path)


def _save_mask(mask: np.ndarray, path: Path) -> None:
    _save(Image.fromarray(mask), path)


def _save(image: Image.Image, path: Path) -> None:
    try:
        image.save(path, format="PNG")
    except OSError as error:
        raise HimtokError(f"{path} cannot be written: {error.strerror or error}.") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
