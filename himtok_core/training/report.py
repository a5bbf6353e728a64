"""What training runs did, from their logs: a table in Markdown and the curves as one SVG picture.

Knows run folders and nothing of what was trained. The picture is written by hand, because the machine that
trains seldom has a library for it.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch

from ..errors import DataError
from .run_folder import read_rows

_WIDTH, _HEIGHT, _EDGE, _HEAD = 420, 200, 44, 24  # of a panel, of what is around its plot, of its title
_COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_ENDS_HERE = 'text-anchor="end"'
_COUNTED = ("seconds", "step", "samples")


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
    parts = []
    for place, (run, rows) in enumerate(logs.items()):
        scored = [row for row in rows if "samples" in row]
        names = [name for name in scored[-1] if name not in _COUNTED and 0 <= scored[-1][name] <= 1]
        losses = {"loss": [(row["step"], row["loss"]) for row in rows if "loss" in row]}
        scores = {name: [(row["step"], row[name]) for row in scored if name in row] for name in names}
        top = place * (_HEIGHT + _HEAD + _EDGE)
        parts += _panel(f"{run.name}: loss", losses, 0, top)
        parts += _panel(f"{run.name}: held-out scores", scores, _WIDTH + _EDGE, top)
    width, height = 2 * (_WIDTH + _EDGE), len(logs) * (_HEIGHT + _HEAD + _EDGE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11"><rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, lines: dict[str, list[tuple[float, float]]], left: float, top: float) -> list[str]:
    """Elements of a plot; lines: name -> points (step, value)."""
    left, top = left + _EDGE, top + _HEAD
    width, height = _WIDTH - _EDGE, _HEIGHT
    parts = [
        _text(left, top - 8, title, 'font-weight="bold"'),
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
    ]
    points = [point for line in lines.values() for point in line]
    if not points:
        return parts
    last = max(step for step, _ in points) or 1
    # What falls steeply in the first tenth would press the rest flat: it is cut off at the top.
    low, high = min(0.0, *(value for _, value in points)), max(v for step, v in points if step >= last / 10)
    high = high if high > low else low + 1
    for share in (0, 0.5, 1):
        y = top + (1 - share) * height
        parts.append(_text(left - 4, y + 4, f"{low + share * (high - low):.3g}", _ENDS_HERE))
    parts.append(_text(left + width, top + height + 14, f"step {last}", _ENDS_HERE))
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn = " ".join(
            f"{left + width * step / last:.1f},{top + height * (high - min(value, high)) / (high - low):.1f}"
            for step, value in line
        )
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        below = top + height - 6 - 13 * number
        parts.append(_text(left + width - 6, below, name, f'{_ENDS_HERE} fill="{colour}"'))
    return parts


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'


def main(argv: list[str]) -> int:
    """`python -m himtok_core train report`: one JSON line with where the report is."""
    parser = argparse.ArgumentParser(prog="himtok_core train report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, in their order")
    parser.add_argument("--out", type=Path, required=True, help="folder for training.md and curves.svg")
    options = parser.parse_args(argv)
    write_report(options.runs, options.out)
    print(json.dumps({"folder": str(options.out)}))
    return 0
