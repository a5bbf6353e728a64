"""Mask -> 32 continuous vectors, before quantisation (the paper's 1-D mask encoder)."""

import torch
from torch import nn

from .configuration import MaskTokenizerConfig
from .layers import ResidualAttentionBlock


def causal_latent_mask(num_image_tokens: int, num_latents: int) -> torch.Tensor:
    """Which positions a row may not see: bool (T, T), True = blocked.

    Every row sees all image tokens (class token and patches); latent i also sees latents 0..i;
    image tokens see no latents.
    """
    total = num_image_tokens + num_latents
    blocked = torch.zeros(total, total, dtype=torch.bool)
    blocked[:, num_image_tokens:] = True
    blocked[num_image_tokens:, num_image_tokens:] = torch.ones(num_latents, num_latents).triu(1).bool()
    return blocked


class MaskEncoder(nn.Module):
    """Patches, a class token and latent tokens through a transformer; the latents come out."""

    def __init__(self, config: MaskTokenizerConfig):
        super().__init__()
        width, num_image_tokens = config.encoder_width, config.grid_size**2 + 1
        self.token_size = config.token_size
        self.patch_embed = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.class_embedding = nn.Parameter(torch.zeros(1, width))
        self.positional_embedding = nn.Parameter(torch.zeros(num_image_tokens, width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(config.num_latent_tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleList(
            ResidualAttentionBlock(width, config.encoder_heads, config.mlp_ratio)
            for _ in range(config.encoder_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.conv_out = nn.Conv2d(width, config.token_size, 1)
        # Part of the released files, hence persistent.
        self.register_buffer("attn_mask", causal_latent_mask(num_image_tokens, config.num_latent_tokens))

    def forward(self, masks: torch.Tensor, latent_tokens: torch.Tensor) -> torch.Tensor:
        """masks: (B, S, S) in [0, 1]; latent_tokens: (L, width) -> (B, L, token_size)."""
        batch, num_latents = masks.shape[0], latent_tokens.shape[0]
        x = self.patch_embed(masks[:, None].expand(-1, 3, -1, -1))  # (B, W, grid, grid)
        x = x.flatten(2).transpose(1, 2)  # (B, grid^2, W)
        x = torch.cat([self.class_embedding.expand(batch, 1, -1), x], dim=1) + self.positional_embedding
        latents = (latent_tokens + self.latent_token_positional_embedding).expand(batch, -1, -1)
        x = self.ln_pre(torch.cat([x, latents], dim=1))
        for block in self.transformer:
            x = block(x, self.attn_mask)
        latents = self.ln_post(x[:, -num_latents:])  # (B, L, W)
        # The released model reads the (L, W) block as (W, L) without transposing it, so that column n
        # gathers from every latent. Its weights were trained that way, and so are ours.
        columns = latents.reshape(batch, -1, num_latents, 1)  # (B, W, L, 1)
        return self.conv_out(columns).squeeze(-1).transpose(1, 2)  # (B, L, token_size)
