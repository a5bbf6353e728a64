"""The mask losses exactly as the reference implementation computes them, its slips included.

For comparisons with it; training by the paper uses `losses`. What differs from the paper's section B:

- levels are drawn once a batch, without repeating, p proportional to 1 / (k + 9) for k in 0..31, and the
  index k - 1 says how many tokens are kept: index -1, the likeliest, keeps 31 of them though its label is
  the blurriest;
- missing tokens are zeroed as probabilities, so that each becomes the bias of the decoder's embedding;
- the label's deviation, 100 / (index + 2) - 2, is in pixels of the mask whatever its size;
- of several levels only the last enters the loss, times their number;
- Dice is taken over all masks of the batch at once.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..mask_tokenizer import MaskTokenizer

EPS = 1e-6
DICE_WEIGHT = 0.25


def sample_indices(random: np.random.RandomState, count: int, num_tokens: int = 32) -> list[int]:
    """`count` different level indices in -1..num_tokens - 2, drawn as the reference draws them."""
    weights = 1 / (np.arange(num_tokens) + 9)
    drawn = random.choice(num_tokens, size=count, replace=False, p=weights / weights.sum())
    return [int(number) - 1 for number in drawn]


def level_label(masks: torch.Tensor, index: int) -> torch.Tensor:
    """The label of a level: masks (B, S, S), blurred with zeros around them, each divided by its maximum."""
    sigma = 100 / (index + 2) - 2
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=masks.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(masks.dtype)
    x = masks[:, None]
    x = F.conv2d(x, kernel[None, None, :, None], padding=(reach, 0))
    x = F.conv2d(x, kernel[None, None, None, :], padding=(0, reach))[:, 0]
    return x / x.amax((1, 2), keepdim=True).clamp_min(EPS)


def drawing_loss(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over all pixels plus Dice over the whole batch: (B, S, S) twice -> scalar."""
    probability = probability.clamp(EPS, 1 - EPS)
    entropy = -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()
    overlap = (2 * (probability * target).sum() + EPS) / (probability.sum() + target.sum() + EPS)
    return entropy + DICE_WEIGHT * (1 - overlap)


def mask_losses(
    tokenizer: MaskTokenizer, probabilities: torch.Tensor, targets: torch.Tensor, indices: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of complete masks and that of the levels.

    Args:
        probabilities: (B, L, K), softmax(2 x logits) over the mask tokens, one for each complete run.
        targets: float (B, S, S) in [0, 1]. indices: from `sample_indices`, none for no levels.

    Returns:
        Two scalars; both 0 without a sample.
    """
    if not len(probabilities):
        return targets.new_zeros(()), targets.new_zeros(())
    complete = drawing_loss(_drawn(tokenizer, probabilities), targets)
    if not indices:
        return complete, targets.new_zeros(())
    last = indices[-1]
    kept = torch.zeros_like(probabilities)
    kept[:, :last] = probabilities[:, :last]
    with torch.autocast(targets.device.type, enabled=False):
        label = level_label(targets, last)
    levels = drawing_loss(_drawn(tokenizer, kept), label)
    return complete, levels * len(indices)


def _drawn(tokenizer: MaskTokenizer, probabilities: torch.Tensor) -> torch.Tensor:
    return tokenizer.draw(tokenizer.quantize.expectation(probabilities.to(tokenizer.dtype))).float()
