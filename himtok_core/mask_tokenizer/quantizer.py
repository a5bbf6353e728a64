"""Continuous vectors <-> codebook ids."""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration import MaskTokenizerConfig


class VectorQuantizer(nn.Module):
    """A codebook of L2-normalised directions. The codes are a linear map of a learned table."""

    def __init__(self, config: MaskTokenizerConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.codebook_size, config.token_size)
        self.embedding_proj = nn.Linear(config.token_size, config.token_size, bias=False)

    def codebook(self) -> torch.Tensor:
        """The projected codes, not normalised: (codebook_size, token_size)."""
        return self.embedding_proj(self.embedding.weight)

    def nearest(self, z: torch.Tensor) -> torch.Tensor:
        """z: (..., token_size) -> int64 (...): the code with the smallest distance after normalisation."""
        z, codes = F.normalize(z, dim=-1), F.normalize(self.codebook(), dim=-1)
        return (z @ codes.T).argmax(dim=-1)  # on the unit sphere the nearest code has the largest cosine

    def lookup(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: int64 (...) -> normalised codes (..., token_size)."""
        return F.normalize(self.codebook(), dim=-1)[ids]

    def expectation(self, probabilities: torch.Tensor) -> torch.Tensor:
        """probabilities: (..., codebook_size) -> (..., token_size), of the codes before normalisation.

        The reference's inference does not normalise here, so a one-hot row has the direction of
        `lookup` but the code's own length.
        """
        return probabilities @ self.codebook()
