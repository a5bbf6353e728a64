"""Losses on masks: binary cross-entropy, Dice, and the paper's hierarchical mask loss (section B)."""

import torch
import torch.nn.functional as F


def dice_loss(probability: torch.Tensor, target: torch.Tensor, eps: float = 1.0) -> torch.Tensor:
    """1 - Dice overlap of each mask, averaged: (B, S, S), (B, S, S) in [0, 1] -> scalar."""
    inter = (probability * target).sum((1, 2))
    total = probability.sum((1, 2)) + target.sum((1, 2))
    return (1 - (2 * inter + eps) / (total + eps)).mean()


def mask_loss(logits: torch.Tensor, target: torch.Tensor, dice_weight: float) -> torch.Tensor:
    """Binary cross-entropy over all pixels plus weighted Dice.

    Args:
        logits: (B, S, S) before the sigmoid. target: (B, S, S) in [0, 1].
        dice_weight: 0.25 in the paper's language-model training.
    """
    return F.binary_cross_entropy_with_logits(logits, target) + dice_weight * dice_loss(
        logits.sigmoid(), target
    )


def level_sigma(level: int | torch.Tensor) -> float | torch.Tensor:
    """Standard deviation in pixels of a 256-pixel mask of the label at `level` tokens: 100 / (l + 1) - 2."""
    return 100 / (level + 1) - 2


def sample_levels(generator: torch.Generator, count: int, num_tokens: int = 32) -> torch.Tensor:
    """Partial levels l in 1..num_tokens - 1 with p_l proportional to 1 / (l + 8): int64 (count,)."""
    levels = torch.arange(1, num_tokens)
    return levels[torch.multinomial(1 / (levels + 8.0), count, replacement=True, generator=generator)]


def grained_labels(masks: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The multi-grained labels of section B: each mask blurred as far as its number of tokens can draw.

    Args:
        masks: float (B, S, S) in [0, 1]; the paper's sigma, in pixels of a 256-pixel mask, is scaled to S.
        levels: int (B,) tokens kept; a level of 32 or more stays sharp, as does one with hardly any sigma.

    Returns:
        (B, S, S), each blurred with zeros around it and divided by its maximum, so that it still reaches 1.
    """
    size = masks.shape[-1]
    sigma = level_sigma(levels) * size / 256
    sharp = (levels >= 32) | (sigma <= 0.3)  # narrower than this the kernel is a single pixel
    sigma = sigma.clamp_min(0.3)[:, None]
    away = torch.arange(size, device=masks.device)
    weights = torch.exp(-0.5 * (away / sigma) ** 2) * (away <= (3 * sigma).ceil())  # (B, S), by distance
    weights = weights / (2 * weights.sum(1, keepdim=True) - 1)  # as many on the other side
    kernels = weights[:, (away[:, None] - away).abs()]  # (B, S, S)
    with torch.autocast(masks.device.type, enabled=False):  # labels are as exact as the masks
        blurred = kernels @ masks @ kernels
    blurred = blurred / blurred.amax((1, 2), keepdim=True).clamp_min(1e-6)
    return torch.where(sharp[:, None, None], masks, blurred)
