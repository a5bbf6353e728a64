"""One optimizer step of every recipe: clip, schedule, Muon for matrices and AdamW for the rest."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


class Optimizers:
    """Several optimizers that step together under one learning-rate schedule.

    Each parameter group's learning rate at the beginning is its peak.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self._all = optimizers
        self._peaks = [group["lr"] for group in self._groups()]

    def _groups(self) -> list[dict]:
        return [group for optimizer in self._all for group in optimizer.param_groups]

    def step(self, parameters: Iterable[torch.nn.Parameter], factor: float) -> None:
        """Take a step and forget the gradients.

        Args:
            parameters: whose gradients together are clipped to norm 1. factor: on every peak learning rate.
        """
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group, peak in zip(self._groups(), self._peaks, strict=True):
            group["lr"] = factor * peak
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict]:
        """What `load_state_dict` takes."""
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: list[dict]) -> None:
        """Go on from a saved state of the same optimizers."""
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


def learning_rate(step: int, progress: float, warmup: int, decay: float = 0.4) -> float:
    """Factor on the learning rate: linear warm-up, constant, linear decay to 2 % over the last part.

    Args:
        progress: part of the run that lies behind, 0..1.
    """
    if step < warmup:
        return (step + 1) / warmup
    return max(0.02, min(1.0, (1 - progress) / decay))


def split_for_muon(module: torch.nn.Module, blocks: tuple[str, ...]) -> tuple[list, list]:
    """Parameters of a network -> (matrices inside its transformer blocks, everything else).

    Args:
        blocks: parts of parameter names that mark a transformer block.
    """
    matrices, others = [], []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and any(block in name for block in blocks)
            (matrices if inside else others).append(parameter)
    return matrices, others


def training_device() -> torch.device:
    """The GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def reproducible() -> Iterator[None]:
    """On a processor, the same numbers in every run: threads may not add in whatever order they come.

    The gradient of an indexed read is such a sum. On a GPU the ordered algorithms cost too much, so a resumed
    run there sees the same batches but differs in the last bits; for the same reason its matrix products
    round to ten bits of mantissa (TF32).
    """
    if training_device().type == "cuda":
        torch.set_float32_matmul_precision("high")
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(before or training_device().type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def native_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself; other processors emulate it, hundreds of times slower."""
    if device.type == "cuda":
        return True
    can = torch.cpu.get_capabilities()
    return can.get("avx512_bf16", False) or can.get("amx_bf16", False)


@contextmanager
def quick_products() -> Iterator[None]:
    """Where bfloat16 is multiplied natively, networks compute in it; weights stay float32.

    What that is worth on a processor, `benchmarks/train.py` measures.
    """
    device = training_device()
    with torch.autocast(device.type, torch.bfloat16, enabled=native_bfloat16(device)):
        yield
