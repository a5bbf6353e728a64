"""The folder of a training run: its settings, its log, its last state. Knows nothing of what is trained.

A run that is killed and started again with the same folder goes on from its last state along the same
trajectory: every batch is made from (seed, step) alone, and the state holds everything else.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch

from ..errors import DataError

Batch = TypeVar("Batch")


class RunFolder:
    """`settings.json`, `log.jsonl` and `state.pt` of one run.

    Args:
        folder: made if it is not there.
        settings: the run's settings; a folder that was begun with others is refused. They have `steps`, or
            `schedule_minutes` if the run is over after so long, however many steps it took by then.
        minutes: stop (and save) after so long in this process; None for no limit.

    Raises:
        DataError: if the folder belongs to a run with other settings.
    """

    def __init__(self, folder: Path, settings: dict, minutes: float | None = None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(json.dumps(settings))
        self.started = time.monotonic()
        self.seconds_before = 0.0
        self.limit = math.inf if minutes is None else 60 * minutes
        self.fifths = 0  # of a run by the clock that have been scored
        self.waited, self.waited_since = 0.0, self.started  # for batches, and since when that is counted
        path = self.folder / "settings.json"
        if path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            if begun != self.settings:
                changed = sorted(
                    k for k in begun.keys() | settings.keys() if begun.get(k) != self.settings.get(k)
                )
                named = ", ".join(changed)
                raise DataError(
                    f"{folder} was begun with other settings ({named}): use the same or a new folder"
                )
        else:
            path.write_text(json.dumps(self.settings, indent=1) + "\n", encoding="utf-8")

    @property
    def state_path(self) -> Path:
        """Where the last state lies."""
        return self.folder / "state.pt"

    @property
    def seconds(self) -> float:
        """Training time of the run so far, earlier processes included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def out_of_time(self) -> bool:
        """Whether this process has used its minutes."""
        return time.monotonic() - self.started > self.limit

    @property
    def steps(self) -> int:
        """How many steps the run has at most."""
        return sys.maxsize if self.settings.get("schedule_minutes") else self.settings["steps"]

    def progress(self, step: int) -> float:
        """Part of the run that lies behind, 0..1."""
        if minutes := self.settings.get("schedule_minutes"):
            return min(1.0, self.seconds / (60 * minutes))
        return step / self.settings["steps"]

    def is_over(self, done: int) -> bool:
        """Whether step number `done`, counted from 1, is the last, of the run or of this process."""
        return self.progress(done) >= 1 or self.out_of_time

    def scores_after(self, done: int) -> bool:
        """Whether step number `done` is one after which to score and to save.

        Every tenth of a run, on a slow machine at least every 250 steps; by the clock every fifth of it.
        """
        if not self.settings.get("schedule_minutes"):
            return done % max(250, self.settings["steps"] // 10) == 0
        before, self.fifths = self.fifths, int(5 * self.progress(done))
        return self.fifths > before

    def load(self, device: torch.device) -> dict | None:
        """The last state, or None for a new run."""
        if not self.state_path.exists():
            return None
        state = torch.load(self.state_path, map_location=device, weights_only=True)
        self.seconds_before = state["seconds"]
        if self.settings.get("schedule_minutes"):
            self.fifths = int(5 * self.progress(state["step"]))
        return state

    def save(self, state: dict) -> None:
        """Write the state so that a kill at any moment leaves either the old or the new one."""
        scratch = self.state_path.with_suffix(".tmp")
        torch.save({**state, "seconds": self.seconds}, scratch)
        os.replace(scratch, self.state_path)

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the log says as `waiting` which part of the time they were waited for."""
        while True:
            begun = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.monotonic() - begun
            yield batch

    def log(self, **row: float | int | str) -> None:
        """Append a row to `log.jsonl` and show it on standard error."""
        now = time.monotonic()
        if self.waited:
            row["waiting"] = round(self.waited / max(now - self.waited_since, 1e-6), 3)
            self.waited, self.waited_since = 0.0, now
        if torch.cuda.is_available():  # at most so far: whether a larger batch would fit
            row["gpu_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        row = {"seconds": round(self.seconds, 1), **row}
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(shown), file=sys.stderr, flush=True)


def read_rows(folder: Path) -> list[dict]:
    """Everything that a run has logged so far; nothing for a folder that holds none."""
    path = Path(folder) / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
