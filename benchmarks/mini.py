"""Speed and memory of himtok-mini on this machine, as one JSON line.

Each run is a process of its own, so that start-up, the first question and peak memory are what a visitor
meets after `python app.py`: nothing is warm. The line holds the median over the runs. Only public names of
himtok_core are used.

    python benchmarks/mini.py --runs 5
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "assets" / "examples"
sys.path.insert(0, str(ROOT))  # runs from a checkout without installing; spawned processes do it again

ALL_LENGTHS = list(range(1, 33))


def measure(started: float, model: str, picture: str, phrase: str) -> dict[str, float]:
    """One cold run: load, ask for one mask of 32 tokens, then de-tokenise all its prefixes.

    `started` is time.monotonic() in the parent just before this process was made; processes share that clock.
    Returns seconds, tokens per second and megabytes under the names of the printed line.
    """
    import torch  # inside: what importing costs is part of what is timed

    import himtok_core as himtok

    chat = himtok.load(model)
    ready = time.monotonic() - started

    conversation = chat.start(picture)
    question = himtok.prompts.render("segment", phrase=phrase)
    reply = conversation.ask(question, mask_tokens=max(ALL_LENGTHS), expects_mask=True)
    runs = [item.tokens for item in reply.objects if item.tokens]
    if not runs:
        raise SystemExit(f"{phrase!r} in {picture} gave no mask, so there is nothing to time: {reply.text!r}")

    tokens = torch.tensor([runs[0]], device=chat.model.device)  # (1, 32)
    begin = time.perf_counter()
    pyramid = chat.mask_tokenizer.decode_prefixes(tokens, ALL_LENGTHS).cpu()  # (1, 32, S, S)
    prefixes = time.perf_counter() - begin
    assert pyramid.shape[1] == len(ALL_LENGTHS)

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {
        "seconds_to_ready": ready,
        "seconds_to_first_token": reply.timing.first_token,
        "seconds_to_mask": reply.timing.total,
        "tokens_per_second": (reply.timing.new_tokens - 1) / reply.timing.decode,
        "seconds_for_32_prefixes": prefixes,
        "peak_memory_mb": kilobytes / 1024,
    }


def processor_name() -> str:
    """The processor as the system names it; Linux keeps that in /proc/cpuinfo only."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def example_question() -> tuple[str, str]:
    """The first example picture and something that is in it."""
    truth = json.loads((EXAMPLES / "truth.json").read_text(encoding="utf-8"))
    file, objects = next(iter(truth.items()))
    return str(EXAMPLES / file), objects[0]["name"]


def machine() -> dict[str, str | int]:
    """What the numbers depend on."""
    import torch  # inside: the measured processes must not pay for it twice

    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time himtok-mini on this machine; prints one JSON line.")
    parser.add_argument("--model", default=str(ROOT / "assets" / "himtok-mini"), help="model folder")
    parser.add_argument("--runs", type=int, default=5, help="cold runs to take the median of (%(default)s)")
    arguments = parser.parse_args()

    picture, phrase = example_question()
    spawn = multiprocessing.get_context("spawn")
    runs = []
    for number in range(arguments.runs):
        print(f"run {number + 1} of {arguments.runs}", file=sys.stderr)
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
            run = process.submit(measure, time.monotonic(), arguments.model, picture, phrase)
            runs.append(run.result())

    line = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
    line |= {"runs": len(runs), "model": Path(arguments.model).name, "machine": machine()}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
