"""Batches that travel: dataclasses of tensors that go to a device as one."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Self

import torch


class Batch:
    """Base of dataclasses whose fields are tensors, other batches, or plain numbers."""

    def to(self, device: torch.device) -> Self:
        """The same on a device. What lies in pinned memory gets there while others compute."""
        return self._changed(
            lambda x: x.to(device, non_blocking=True) if isinstance(x, torch.Tensor) else x.to(device)
        )

    def pin_memory(self) -> Self:
        """The same in memory that a GPU reads by itself; a data loader asks for it."""
        return self._changed(lambda x: x.pin_memory())

    def _changed(self, change: Callable) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        movable = {name: x for name, x in values.items() if isinstance(x, torch.Tensor | Batch)}
        return replace(self, **{name: change(x) for name, x in movable.items()})
