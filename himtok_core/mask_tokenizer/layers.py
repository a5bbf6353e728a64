"""The transformer block that the mask tokenizer's encoder and decoder share."""

from collections import OrderedDict

import torch
from torch import nn


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP (LayerNorm eps 1e-5, exact GELU), batch first."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, hidden), gelu=nn.GELU(), c_proj=nn.Linear(hidden, width))
        )

    def forward(self, x: torch.Tensor, blocked: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B, T, width); blocked: bool (T, T), True where row may not look at column."""
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=blocked, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))
