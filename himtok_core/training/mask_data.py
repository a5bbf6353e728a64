"""Masks to train the tokenizer on: parts and unions of scene objects, of photographs, and of odd shapes."""

from pathlib import Path

import numpy as np
import torch

from ..data.layouts import make_layout
from ..data.odd_masks import odd_mask
from ..data.photo_masks import read_photo_masks
from ..data.scenes import objects_of
from ..data.world import World
from ..geometry import stretch_mask_to_bytes

ODD_SHARE = 0.2  # of a batch, in the full world


def scene_masks(seed: int, world: World, size: int) -> list[np.ndarray]:
    """Each object's mask of one scene and, of several, a random union: uint8 [size, size], 0..255, each."""
    masks = [item.mask for item in objects_of(make_layout(seed, world))]  # nobody looks at the picture
    if len(masks) > 1:
        rng = np.random.default_rng([seed, 1])
        chosen = rng.permutation(len(masks))[: rng.integers(2, len(masks) + 1)]
        masks.append(np.logical_or.reduce([masks[i] for i in chosen]))
    return [stretch_mask_to_bytes(mask, size) for mask in masks]


def load_photo_masks(path: Path, size: int) -> np.ndarray:
    """The masks of a file that are for training -> uint8 [N, size, size], 0..255."""
    return np.stack([stretch_mask_to_bytes(mask, size) for mask in read_photo_masks(path, held_out=False)])


class MaskBatches:
    """Batch number `step` of a run, a function of (seed, step) alone.

    Args:
        world: what scenes are made of; shapes that they hardly have are mixed in.
            photo_masks: uint8 [N, S, S] mixed in, or None.
        photo_share: part of a batch that is drawn from `photo_masks`.
    """

    def __init__(
        self,
        world: World,
        size: int,
        batch: int,
        seed: int,
        photo_masks: np.ndarray | None,
        photo_share: float = 0.15,
    ):
        self.world, self.size, self.batch, self.seed = world, size, batch, seed
        self.odd = round(ODD_SHARE * batch)
        self.photo_masks = photo_masks
        self.photos = 0 if photo_masks is None else round(photo_share * batch)

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """-> masks uint8 (B, S, S), 0..255, prefix lengths int (B,).

        Most masks keep all 32 tokens, three of twenty a log-uniform number of them. Every mask is flipped
        and transposed at random; a photograph's mask is moved and scaled as well, for they are few.
        """
        rng = np.random.default_rng([self.seed, step])
        masks: list[np.ndarray] = []
        drawn = self.batch - self.photos - self.odd
        while len(masks) < drawn:
            masks += scene_masks(int(rng.integers(2**29)), self.world, self.size)
        masks = masks[:drawn] + [stretch_mask_to_bytes(odd_mask(rng), self.size) for _ in range(self.odd)]
        for index in rng.integers(0, len(self.photo_masks) if self.photos else 1, self.photos):
            masks.append(_moved(rng, self.photo_masks[index]))
        masks = [_turned(rng, mask) for mask in masks]
        lengths = np.floor(np.exp(rng.uniform(0, np.log(33), self.batch))).clip(1, 32).astype(np.int64)
        lengths[rng.random(self.batch) < 0.85] = 32
        return torch.from_numpy(np.stack(masks)), torch.from_numpy(lengths)


def _turned(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    mask = np.rot90(mask, int(rng.integers(4)))
    return np.ascontiguousarray(mask.T if rng.random() < 0.5 else mask)


def _moved(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Cut a random window of the mask and stretch it; windows that lose the object are not taken."""
    size = mask.shape[0]
    side = int(rng.uniform(0.5, 1) * size)
    y, x = rng.integers(0, size - side + 1, 2)
    window = mask[y : y + side, x : x + side]
    window = window > 127
    return stretch_mask_to_bytes(window, size) if window.mean() > 0.03 else mask
