"""Imperfect masks to train a refiner on: M_in of the supplement's section C, drawn from true masks.

Knows the mask tokenizer and what can be wrong with a drawn mask. Where pictures and true masks come from is
`sam_sources`' work, the network `refine`'s.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..geometry import stretch_mask
from ..mask_tokenizer import MaskTokenizer
from ..refine import SamConfig
from ..refine.frame import Frame
from .sam_sources import Pictured, Source

TRUTH_SCALE = 2  # pixels of a true mask to one of SAM's own masks, so that edges are learned between pixels
UNIONS = 0.1  # part of the masks that are several objects at once
WHOLE = 0.4  # part of the token sequences that stay whole
MISPLACED = 0.5  # part of the masks that are moved and scaled before they become tokens
REPLACED = 0.3  # part of the token sequences in which codes are replaced
MORPHED = 0.5  # part of the drawn masks that are dilated or eroded


@dataclass(frozen=True)
class RefinementBatch:
    """P pictures with K masks each, picture by picture; I, S as in `RefinementSam`, T = 2 S.

    pictures: uint8 (P, 3, I, I). maps: M_in, float (P * K, S, S) in 0..1. truths: float (P * K, T, T) in
    0..1. owners: int64 (P, S, S), which object each pixel shows, 0 for none.
    """

    pictures: torch.Tensor
    maps: torch.Tensor
    truths: torch.Tensor
    owners: torch.Tensor


class RefinementBatches:
    """Batch number `step` of a run, a function of (seed, step) alone.

    Args:
        source: of pictures and true masks. tokenizer: draws the masks. config: of the SAM that refines them.
        pictures, masks: P and K.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: MaskTokenizer,
        config: SamConfig,
        pictures: int,
        masks: int,
        seed: int,
    ):
        self.source, self.tokenizer, self.config = source, tokenizer, config
        self.pictures, self.masks, self.seed = pictures, masks, seed

    def __call__(self, step: int) -> RefinementBatch:
        rng = np.random.default_rng([self.seed, step])
        side = self.tokenizer.config.mask_size
        all_pictured = [self.source.draw(rng) for _ in range(self.pictures)]
        chosen = [[_choose(rng, pictured) for _ in range(self.masks)] for pictured in all_pictured]
        stretched = np.stack([stretch_mask(mask, side) for masks in chosen for mask in masks])
        drawn = imperfect(rng, torch.from_numpy(stretched), self.tokenizer).split(self.masks)
        pictures, maps, truths, owners = [], [], [], []
        for pictured, masks, imperfect_maps in zip(all_pictured, chosen, drawn, strict=True):
            frame = Frame.of(pictured.picture.size, self.config)
            pictures.append(_padded(frame.enter(pictured.picture), frame.side))
            maps.append(frame.enter_maps(imperfect_maps))
            truths += [_truth(mask, frame) for mask in masks]
            owners.append(_owners(pictured, frame))
        return RefinementBatch(
            torch.stack(pictures), torch.cat(maps), torch.stack(truths), torch.stack(owners)
        )


@torch.no_grad()
def imperfect(rng: np.random.Generator, masks: torch.Tensor, tokenizer: MaskTokenizer) -> torch.Tensor:
    """True masks (N, S, S) in 0..1 -> as a model might draw them, (N, S, S) in 0..1, none of them empty.

    The supplement's two ways, fewer tokens and random dilation or erosion, and two that are a small language
    model's: the mask is a little beside its place or of another size, and some codes are others. What comes
    out empty stays the true mask instead.
    """
    count, length = len(masks), tokenizer.config.num_latent_tokens
    moved = rng.random(count) < MISPLACED
    placed = torch.where(torch.from_numpy(moved)[:, None, None], _misplaced(rng, masks), masks)
    tokens = tokenizer.encode(placed).cpu()
    wrong = rng.random((count, length)) < rng.uniform(0, 0.4, (count, 1)) * np.linspace(0.1, 1, length)
    wrong &= rng.random((count, 1)) < REPLACED
    others = torch.from_numpy(rng.integers(0, tokenizer.config.codebook_size, (count, length)))
    tokens = torch.where(torch.from_numpy(wrong), others, tokens)
    lengths = np.where(rng.random(count) < WHOLE, length, rng.integers(1, length + 1, count))
    drawn = _morphed(rng, _drawn(tokenizer, tokens, torch.from_numpy(lengths)))
    empty = ~(drawn > 0.5).flatten(1).any(1)
    if empty.any():
        drawn[empty] = masks[empty]
    return drawn


def _drawn(tokenizer: MaskTokenizer, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    codes = tokenizer.quantize.lookup(tokens.to(tokenizer.device))
    return tokenizer.draw(codes, lengths.to(tokenizer.device)).float().cpu()


def _misplaced(rng: np.random.Generator, masks: torch.Tensor) -> torch.Tensor:
    """Each mask moved by up to a sixth of its size and scaled by up to a fifth about its own middle."""
    count = len(masks)
    along = torch.linspace(-1, 1, masks.shape[-1])
    area = masks.sum((1, 2)).clamp_min(1e-6)
    middle = torch.stack([(masks.sum(1) * along).sum(1), (masks.sum(2) * along).sum(1)], 1) / area[:, None]
    extent = area.sqrt()[:, None] * 2 / masks.shape[-1]  # of a square of this area, in units of the grid
    shift = torch.from_numpy(rng.normal(0, 0.08, (count, 2))).float().clamp(-0.16, 0.16) * extent
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.1, (count, 2)))).float().clamp(0.8, 1.2)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0], scale[:, 1]
    theta[:, :, 2] = middle - scale * (middle + shift)
    grid = F.affine_grid(theta, [count, 1, *masks.shape[1:]], align_corners=True)
    return F.grid_sample(masks[:, None], grid, align_corners=True)[:, 0].clamp(0, 1)


def _morphed(rng: np.random.Generator, maps: torch.Tensor) -> torch.Tensor:
    """Random dilation or erosion by one to three pixels of the map."""
    steps = rng.integers(1, 4, len(maps)) * rng.choice([-1, 1], len(maps)) * (rng.random(len(maps)) < MORPHED)
    out = maps.clone()
    for step in np.unique(steps[steps != 0]).tolist():
        chosen = torch.from_numpy(steps == step)
        sign = 1 if step > 0 else -1
        out[chosen] = sign * F.max_pool2d(sign * maps[chosen][:, None], 2 * abs(step) + 1, 1, abs(step))[:, 0]
    return out


def _choose(rng: np.random.Generator, pictured: Pictured) -> np.ndarray:
    """One object's mask, now and then several: bool [H, W]."""
    masks = pictured.masks
    count = int(rng.integers(2, len(masks) + 1)) if len(masks) > 1 and rng.random() < UNIONS else 1
    return np.logical_or.reduce([masks[i] for i in rng.permutation(len(masks))[:count]])


def _padded(picture: torch.Tensor, side: int) -> torch.Tensor:
    return F.pad(picture, (0, side - picture.shape[2], 0, side - picture.shape[1]))


def _truth(mask: np.ndarray, frame: Frame) -> torch.Tensor:
    """bool [H, W] -> float (T, T) in 0..1, over the whole input."""
    side = TRUTH_SCALE * frame.mask_side
    inner = [max(1, round(length * side / frame.side)) for length in frame.inner]
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(inner, Image.Resampling.BICUBIC)
    return _padded(torch.from_numpy(np.array(grey))[None] / 255, side)[0]


def _owners(pictured: Pictured, frame: Frame) -> torch.Tensor:
    """Which object each pixel of SAM's own masks shows, 0 for none: int64 (S, S)."""
    owners = np.zeros(pictured.masks[0].shape, np.uint16)
    for number, mask in enumerate(pictured.masks, start=1):
        owners[mask] = number
    inner = [max(1, round(length * frame.mask_side / frame.side)) for length in frame.inner]
    small = Image.fromarray(owners).resize(inner, Image.Resampling.NEAREST)
    return _padded(torch.from_numpy(np.array(small).astype(np.int64))[None], frame.mask_side)[0]
