"""Mask runs -> masks at the picture's size.

Knows how generated tokens (soft, from their probabilities) and given tokens (hard) are de-tokenised together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..errors import MaskError
from ..geometry import mask_from_probability
from ..mask_tokenizer import MaskTokenizer


@torch.no_grad()
def draw_runs(
    mask_tokenizer: MaskTokenizer, runs: Sequence[Sequence[int] | torch.Tensor]
) -> list[np.ndarray]:
    """De-tokenises any number of runs, of any lengths, in one batch.

    Args:
        runs: for each run either its tokens, 1 to L ints in [0, K), decoded hard; or float (n, K), the
            distributions that the tokens were chosen from, decoded softly as the paper's model does.

    Returns:
        float32 [S, S] in 0..1 for each run. A missing tail counts as zeros.

    Raises:
        MaskError: for a run of the wrong length or an unknown token.
    """
    if not runs:
        return []
    quantize, device, dtype = mask_tokenizer.quantize, mask_tokenizer.device, mask_tokenizer.dtype
    size, limit = mask_tokenizer.config.codebook_size, mask_tokenizer.config.num_latent_tokens
    codes = []
    for run in runs:
        if not 1 <= len(run) <= limit:
            raise MaskError(f"A mask has 1 to {limit} tokens, not {len(run)}.")
        if isinstance(run, torch.Tensor):
            codes.append(quantize.expectation(run.to(device, dtype)))  # (n, D)
        else:
            if not all(0 <= token < size for token in run):
                raise MaskError(f"A mask token is an integer from 0 to {size - 1}, not in {tuple(run)}.")
            codes.append(quantize.lookup(torch.tensor(list(run), device=device)))
    lengths = torch.tensor([len(run) for run in runs], device=device)
    drawn = mask_tokenizer.draw(pad_sequence(codes, batch_first=True), lengths)  # (B, S, S)
    return list(drawn.float().clamp(0, 1).cpu().numpy())


def picture_mask(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """float32 [S, S] and a size (width, height) -> bool [height, width], None if it would be empty."""
    mask = mask_from_probability(probability, size)
    return mask if mask.any() else None
