"""Batches made ahead by other processes while a GPU works on the one before.

A scene with its questions takes about 10 ms of a processor core, far longer than a GPU needs to learn from
it.
"""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")


class Steps(Dataset):
    """Item i is the batch of step `first` + i."""

    def __init__(self, make: Callable[[int], Batch], first: int, steps: int):
        self.make, self.first, self.steps = make, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        return self.make(self.first + index)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _step_back(worker: int) -> None:
    """What keeps a GPU busy goes first, however many processes make batches."""
    os.nice(10)


def prefetch(
    make: Callable[[int], Batch], first: int, steps: int, workers: int | None = None
) -> Iterator[Batch]:
    """make(first), ..., make(steps - 1), in order.

    Args:
        make: a function of the step alone, which other processes can run.
        workers: processes beside this one; by default all cores but two on a machine with a GPU, and none on
            one without, where learning needs the cores itself.
    """
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) - 2) if torch.cuda.is_available() else 0
    if workers == 0 or first >= steps:
        return map(make, range(first, steps))
    ahead = {"num_workers": workers, "prefetch_factor": 2, "worker_init_fn": _step_back}
    ahead["pin_memory"] = torch.cuda.is_available()  # copied to the GPU while it computes
    return iter(DataLoader(Steps(make, first, steps), batch_size=None, collate_fn=_as_it_is, **ahead))
