"""What refinement is worth and what it costs, as one JSON line.

Masks of held-out scenes come from the mask tokenizer (8 and 32 tokens) and from the model's own answers. Each
is scored as drawn, refined with the default prompts, and refined with the reference implementation's.

    python benchmarks/refine.py --scenes 200
"""

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mini import processor_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout without installing
if TYPE_CHECKING:
    from himtok_core import SamRefiner
    from himtok_core.evaluation.refinement import DrawnScene


def milliseconds(refiner: "SamRefiner", scenes: list["DrawnScene"]) -> dict[str, float]:
    """Medians over the pictures, after one that is not counted: its embedding, and all masks drawn for it."""
    embed, refine, masks = [], [], []
    for scene in [scenes[0], *scenes]:
        began = time.perf_counter()
        embedding = refiner.embed(scene.picture)
        embedded = time.perf_counter()
        maps = next(iter(scene.drawn.values()))
        refiner.refine(embedding, maps)
        refine.append(1000 * (time.perf_counter() - embedded))
        embed.append(1000 * (embedded - began))
        masks.append(len(maps))
    return {
        "embed_ms_a_picture": statistics.median(embed[1:]),
        "refine_ms_a_picture": statistics.median(refine[1:]),
        "masks_a_picture": statistics.mean(masks[1:]),
    }


def main() -> None:
    """Parses the arguments, measures, and prints the line."""
    from himtok_core import SamRefiner, load
    from himtok_core.data.world import WORLDS
    from himtok_core.evaluation.refinement import answered, refined_scores, round_trips, unrefined_scores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "assets" / "himtok-mini"), help="folder or hub id")
    parser.add_argument("--sam", default=str(ROOT / "assets" / "sam-mini"), help="file, folder or hub id")
    parser.add_argument("--device", help="cpu, cuda ... (default: the accelerator if there is one)")
    parser.add_argument("--world", default="mini", choices=list(WORLDS), help="what the scenes are made of")
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first held-out scene")
    options = parser.parse_args()

    chat = load(options.model, device=options.device)
    refiner = SamRefiner.from_pretrained(options.sam, device=options.device)
    world = WORLDS[options.world]()
    scores: dict[str, dict] = {}
    drawn = round_trips(chat.mask_tokenizer, world, options.scenes, options.seed)
    print(f"{len(drawn)} scenes drawn", file=sys.stderr, flush=True)
    answers = answered(chat, world, options.scenes, options.seed)
    print(f"{len(answers)} answers with a mask", file=sys.stderr, flush=True)
    for scenes in (drawn, answers):
        stages = {
            "unrefined": unrefined_scores(scenes),
            "prompts_mask": refined_scores(refiner, scenes, "mask"),
            "prompts_reference": refined_scores(refiner, scenes, "reference"),
        }
        for stage, by_way in stages.items():
            for way, score in by_way.items():
                scores.setdefault(way, {})[stage] = asdict(score)
    line = {
        "benchmark": "refine",
        "model": chat.name,
        "sam": refiner.name,
        "scores": scores,
        **milliseconds(refiner, drawn),
        "device": str(refiner.model.device),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "python": platform.python_version(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
