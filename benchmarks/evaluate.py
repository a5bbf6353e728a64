"""Questions a second of an evaluation, one at a time and in batches, as one JSON line.

Every question asks for one mask in a drawn scene that training never saw. What is timed is what an evaluation
does with a model: looking at the picture, answering, drawing the mask at the picture's size.

    python benchmarks/evaluate.py --batches 1 16
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout without installing

from mini import processor_name

from himtok_core import prompts
from himtok_core.chat import Chat, load
from himtok_core.data.scenes import HELD_OUT_SEED, make_scene
from himtok_core.evaluation.scenes import world_of
from himtok_core.reply import Prompt


def questions(chat: Chat, count: int) -> tuple[list, list[Prompt]]:
    """Held-out scenes with one thing to segment each."""
    world = world_of(chat.concepts)
    scenes = [make_scene(HELD_OUT_SEED + number, world) for number in range(count)]
    named = [Prompt(prompts.render("segment", phrase=scene.objects[0].name), True) for scene in scenes]
    return [scene.picture for scene in scenes], named


def seconds(chat: Chat, pictures: list, asked: list[Prompt], batch: int) -> float:
    """Time to answer all of them."""
    begin = time.perf_counter()
    for start in range(0, len(asked), batch):
        part = slice(start, start + batch)
        replies = chat.ask_batch(pictures[part], asked[part], max_new_tokens=128)
        assert len(replies) == len(asked[part])
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="assets/himtok-mini", help="folder or hub id (%(default)s)")
    parser.add_argument("--device", help="cpu, cuda, mps; the accelerator if there is one by default")
    parser.add_argument("--samples", type=int, default=64, help="questions a run (%(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="batch sizes (1 16)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, the median counts (%(default)s)")
    options = parser.parse_args()
    chat = load(options.model, device=options.device)
    pictures, asked = questions(chat, options.samples)
    line = {
        "model": chat.name,
        "device": processor_name() if chat.model.device.type == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "samples": options.samples,
    }
    seconds(chat, pictures[:16], asked[:16], 16)  # what comes first is slower
    taken: dict[int, list[float]] = {batch: [] for batch in options.batches}
    for run in range(options.runs):
        for batch in options.batches:  # in turn, so that whatever else the machine does hits all alike
            taken[batch].append(seconds(chat, pictures, asked, batch))
            rate = options.samples / taken[batch][-1]
            print(f"run {run + 1}, batch {batch}: {rate:.2f} a second", file=sys.stderr, flush=True)
    for batch, times in taken.items():
        line[f"samples_per_second_batch_{batch}"] = round(options.samples / statistics.median(times), 2)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
