"""What training runs did, from their logs: a table in Markdown and the curves as one SVG picture.

Knows run folders and nothing of what was trained.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import DataError
from ..evaluation.charts import Panel, chart
from .run_folder import read_rows

_COUNTED = ("seconds", "step", "samples", "waiting")


def machine() -> str:
    """The machine that this runs on, in a line."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} processors, {name}, PyTorch {torch.__version__}"


def write_report(runs: Sequence[Path], target: Path) -> None:
    """Write `target/training.md` and `target/curves.svg`.

    Args:
        runs: folders of runs in the order in which they were made.

    Raises:
        DataError: if a run has logged nothing, or the files cannot be written.
    """
    logs = {}
    for run in runs:
        logs[run] = read_rows(run)
        if not any("samples" in row for row in logs[run]):
            raise DataError(f"{run} holds no run that has been scored: there is no log.jsonl with samples")
    lines = [f"Machine: {machine()}.", "", "| run | steps | samples | minutes | last scores |"]
    lines.append("|---|---|---|---|---|")
    for run, rows in logs.items():
        last = [row for row in rows if "samples" in row][-1]
        scores = ", ".join(f"{name} {value:.3f}" for name, value in last.items() if name not in _COUNTED)
        minutes = last["seconds"] / 60
        lines.append(f"| {run.name} | {last['step']} | {last['samples']} | {minutes:.1f} | {scores} |")
    for run in runs:
        settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
        lines += ["", f"`{run.name}`: " + ", ".join(f"{name} {value}" for name, value in settings.items())]
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "training.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (target / "curves.svg").write_text(curves(logs), encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report cannot be written to {target}: {error.strerror or error}") from error


def curves(logs: dict[Path, list[dict]]) -> str:
    """An SVG picture: for each run its loss on the left, its scores from 0 to 1 on the right."""
    rows = []
    for run, logged in logs.items():
        scored = [row for row in logged if "samples" in row]
        names = [name for name in scored[-1] if name not in _COUNTED and 0 <= scored[-1][name] <= 1]
        losses = {"loss": [(row["step"], row["loss"]) for row in logged if "loss" in row]}
        scores = {name: [(row["step"], row[name]) for row in scored if name in row] for name in names}
        ticks = {scored[-1]["step"]: f"step {scored[-1]['step']}"}
        rows.append(
            [Panel(f"{run.name}: loss", losses, ticks), Panel(f"{run.name}: held-out scores", scores, ticks)]
        )
    return chart(rows)


def main(argv: list[str]) -> int:
    """`python -m himtok_core train report`: one JSON line with where the report is."""
    parser = argparse.ArgumentParser(prog="himtok_core train report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, in their order")
    parser.add_argument("--out", type=Path, required=True, help="folder for training.md and curves.svg")
    options = parser.parse_args(argv)
    write_report(options.runs, options.out)
    print(json.dumps({"folder": str(options.out)}))
    return 0
