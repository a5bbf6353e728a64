"""A training run -> the folder that ships: half-precision weights, processor, generation settings, concepts.

Writes what the app needs. The model card beside it is written by people.
"""

import argparse
import json
from pathlib import Path

import torch

from ..data.world import WORLDS, World
from ..errors import CheckpointError
from ..lmm import HimtokForConditionalGeneration, HimtokProcessor
from ..mask_tokenizer import MaskTokenizer


def concept_entries(world: World) -> list[dict]:
    """Everything a world can show: {"name", "code", "styles"} of each drawing, {"name"} of each figure."""
    drawings = [
        {"name": concept.name, "code": concept.codes[0], "styles": list(concept.styles)}
        for concept in world.concepts
    ]
    return drawings + [{"name": name} for name in world.figures]


def publish(run: Path, target: Path, world: World, mask_tokenizer: Path | None = None) -> None:
    """Write the model of a language-model run to `target` in float16, with `concepts.json`.

    Args:
        world: what the run saw scenes of.
        mask_tokenizer: folder of a mask tokenizer with the run's codes whose decoder has learned on.

    Raises:
        CheckpointError: if that one has other codes.
    """
    model = HimtokForConditionalGeneration.from_pretrained(run / "model", dtype=torch.float16)
    if mask_tokenizer is not None:
        newer = MaskTokenizer.from_pretrained(mask_tokenizer, dtype=torch.float16)
        if not torch.equal(newer.quantize.codebook(), model.mask_tokenizer.quantize.codebook()):
            raise CheckpointError(f"{mask_tokenizer} has other codes than {run}: train with it first")
        model.mask_tokenizer.load_state_dict(newer.state_dict())
    model.generation_config.do_sample = False
    model.config.mask_tokenizer_config._name_or_path = ""  # where it lay while it was trained
    model.save_pretrained(target)
    HimtokProcessor.from_pretrained(run / "model").save_pretrained(target)
    lines = ",\n".join(json.dumps(entry) for entry in concept_entries(world))
    (target / "concepts.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main(argv: list[str]) -> int:
    """`python -m himtok_core train publish`: one JSON line with the size of what was written."""
    parser = argparse.ArgumentParser(prog="himtok_core train publish", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished lmm run")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--mask-tokenizer", type=Path, help="the run's, if its decoder has learned on")
    parser.add_argument("--world", choices=sorted(WORLDS), default="mini", help="of the run (%(default)s)")
    options = parser.parse_args(argv)
    publish(options.run, options.out, WORLDS[options.world](), options.mask_tokenizer)
    size = sum(path.stat().st_size for path in options.out.iterdir())
    print(json.dumps({"folder": str(options.out), "bytes": size}))
    return 0
