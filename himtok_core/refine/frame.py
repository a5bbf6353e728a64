"""Where a picture lies in SAM's square input, and the way there and back for pictures and masks."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .configuration import SamConfig


@dataclass(frozen=True)
class Frame:
    """One picture in the square input of a SAM.

    size: (width, height) of the picture. inner: (width, height) of the part of the input that it fills, from
    the top left corner. side: of the input. mask_side: of SAM's mask prompt and masks. stretched: whether it
    fills the input whatever its shape.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    side: int
    mask_side: int
    stretched: bool

    @classmethod
    def of(cls, size: tuple[int, int], config: SamConfig) -> "Frame":
        """The frame of a picture of size (width, height)."""
        longest = max(size)
        inner = tuple(max(1, int(length * config.image_size / longest + 0.5)) for length in size)
        if config.stretch:
            inner = (config.image_size, config.image_size)
        return cls(size, inner, config.image_size, config.mask_size, config.stretch)

    def enter(self, picture: Image.Image) -> torch.Tensor:
        """An RGB picture -> the part of the input that it fills: uint8 (3, height, width)."""
        # As the reference implementation and public SAM do.
        way = Image.Resampling.BICUBIC if self.stretched else Image.Resampling.BILINEAR
        return torch.from_numpy(np.array(picture.resize(self.inner, way))).permute(2, 0, 1)

    def enter_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps over the picture, (N, H, W) in 0..1 -> over the whole input: (N, mask_side, mask_side)."""
        width, height = self._inner_mask
        if maps.shape[1:] != (height, width):
            resized = F.interpolate(maps[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]
            maps = resized.clamp(0, 1)
        return F.pad(maps, (0, self.mask_side - width, 0, self.mask_side - height))

    def leave(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits over the whole input, (N, mask_side, mask_side) -> over the picture: (N, H, W)."""
        width, height = self.size
        return F.interpolate(self._inside(logits), (height, width), mode="bilinear")[:, 0]

    def leave_probability(self, logits: torch.Tensor, side: int) -> torch.Tensor:
        """Logits as above -> probabilities stretched over the whole picture: (N, side, side) in 0..1."""
        inside = self._inside(logits).sigmoid()
        return F.interpolate(inside, (side, side), mode="bilinear")[:, 0]

    def _inside(self, logits: torch.Tensor) -> torch.Tensor:
        """The part of the input that the picture fills: (N, 1, h, w), in pixels of the input if it is cut."""
        if self.inner == (self.side, self.side):
            return logits[:, None]
        full = F.interpolate(logits[:, None], (self.side, self.side), mode="bilinear")
        return full[:, :, : self.inner[1], : self.inner[0]]

    @property
    def _inner_mask(self) -> tuple[int, int]:
        return tuple(max(1, round(length * self.mask_side / self.side)) for length in self.inner)
