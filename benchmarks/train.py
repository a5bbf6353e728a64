"""Seconds of a training step of himtok-mini's language model in float32 and in bfloat16, as one JSON line.

Both on the same batches in one run: the ratio says whether `training.optimizers.quick_products` is worth it
on this machine.

    python benchmarks/train.py
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout without installing

from mini import processor_name

from himtok_core.chat import load
from himtok_core.training import muon, optimizers, scene_lmm
from himtok_core.training.run_folder import read_rows

STEPS = 50  # the first half warms up
MODEL = Path(__file__).resolve().parents[1] / "assets" / "himtok-mini"


def seconds_per_step(folder: Path, masks: Path, scenes: int, bfloat16: bool) -> float:
    """Of the second half of a run from the shipped model."""
    for module in (optimizers, muon):
        module.native_bfloat16 = lambda device: bfloat16
    settings = scene_lmm.Settings(
        init=str(MODEL), mask_tokenizer=str(masks), steps=STEPS, scenes=scenes, questions=4
    )
    scene_lmm.train(settings, folder)
    first, last = (row for row in read_rows(folder) if "samples" not in row)
    return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=8, help="pictures a step (%(default)s)")
    options = parser.parse_args()
    native = optimizers.native_bfloat16(torch.device("cpu"))
    scene_lmm.generated_scores = lambda *_: {}  # how good it is does not matter here
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        load(str(MODEL), device="cpu").mask_tokenizer.save_pretrained(folder / "masks")
        exact = seconds_per_step(folder / "float32", folder / "masks", options.scenes, bfloat16=False)
        quick = seconds_per_step(folder / "bfloat16", folder / "masks", options.scenes, bfloat16=True)
    line = {
        "questions_per_step": 4 * options.scenes,
        "seconds_per_step_float32": round(exact, 3),
        "seconds_per_step_bfloat16": round(quick, 3),
        "times_as_fast": round(exact / quick, 2),
        "native_bfloat16": native,
        "threads": torch.get_num_threads(),
        "device": processor_name(),
        "torch": torch.__version__,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
