"""Starts the browser chat: reads the flags, loads a model, builds the page and serves it.

Also the entry point of a Hugging Face Space. Every flag can be given as an environment variable too,
HIMTOK_MODEL for --model, HIMTOK_MAX_TILES for --max-tiles and so on; a flag wins over its variable.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import himtok_core as himtok
from demo import ui
from demo.examples import load_examples

ASSETS = Path(__file__).resolve().parent / "assets"
HIMTOK_MINI, SAM_MINI = ASSETS / "himtok-mini", ASSETS / "sam-mini"
PREFIX = "HIMTOK_"


def parse_arguments(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> argparse.Namespace:
    """The flags, with HIMTOK_* variables as their defaults. A value that cannot be exits with code 2."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)

    def add(flag: str, default: object, text: str, **options: object) -> None:
        variable = PREFIX + flag.removeprefix("--").replace("-", "_").upper()
        # An empty variable counts as none: that is how a Space's settings page unsets one. argparse reads
        # defaults that are text like arguments, so a bad variable fails like a bad flag.
        default = environment.get(variable) or default
        parser.add_argument(flag, default=default, help=f"{text} [{variable}]", **options)

    add("--model", str(HIMTOK_MINI), "model folder or hub id; by default himtok-mini")
    add("--device", None, "cpu, cuda, cuda:1, mps; by default the accelerator if there is one")
    add("--dtype", None, "float32, bfloat16 or float16; by default what suits the device")
    add("--quantization", None, "8bit or 4bit (bitsandbytes, needs a GPU)")
    add("--device-map", None, "auto: over all GPUs and the processor; instead of --device")
    add("--refiner", None, "SAM that can sharpen masks: folder, file or hub id; by default sam-mini with "
        "himtok-mini, else none")
    add("--max-tiles", None, "at most this many tiles a picture; by default the model's own number", type=int)
    add("--host", None, "address to serve on; 0.0.0.0 for every network; by default this computer only")
    add("--port", 7860, "port to serve on", type=int)
    share = (environment.get(PREFIX + "SHARE") or "").lower()
    if share not in ("", "0", "1", "false", "true", "no", "yes"):
        parser.error(f"{PREFIX}SHARE must be 1 or 0, not {share!r}")
    parser.add_argument(
        "--share", action=argparse.BooleanOptionalAction, default=share in ("1", "true", "yes"),
        help=f"also make a public gradio.live link [{PREFIX}SHARE]",
    )
    return parser.parse_args(arguments)


def main() -> int:
    flags = parse_arguments()
    print(f"Loading {flags.model} ...", flush=True)
    try:
        chat = himtok.load(
            flags.model, device=flags.device, dtype=flags.dtype, quantization=flags.quantization,
            device_map=flags.device_map, max_tiles=flags.max_tiles,
        )
        # It was trained on the same drawings; over photographs another SAM is wanted.
        small = SAM_MINI if Path(flags.model).resolve() == HIMTOK_MINI else None
        sam = flags.refiner or small
        refiner = himtok.SamRefiner.from_pretrained(sam, device=flags.device) if sam else None
    except himtok.HimtokError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    page = ui.build(chat, load_examples(), refiner)
    try:
        page.launch(server_name=flags.host, server_port=flags.port, share=flags.share, **ui.launch_options())
    except OSError as error:
        print(f"app.py: cannot serve on port {flags.port}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
