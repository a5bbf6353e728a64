"""Code vectors -> mask map: the 1-D decoder, then the convolutional pixel decoder."""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration import MaskTokenizerConfig
from .layers import ResidualAttentionBlock


class MaskDecoder(nn.Module):
    """Code vectors and a grid of mask-token copies through a transformer; the grid comes out as features."""

    def __init__(self, config: MaskTokenizerConfig):
        super().__init__()
        width, grid = config.decoder_width, config.grid_size
        self.grid = grid
        self.decoder_embed = nn.Linear(config.token_size, width)
        self.class_embedding = nn.Parameter(torch.zeros(1, width))
        self.positional_embedding = nn.Parameter(torch.zeros(grid**2 + 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(config.num_latent_tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.ModuleList(
            ResidualAttentionBlock(width, config.decoder_heads, config.mlp_ratio)
            for _ in range(config.decoder_layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.ffn = nn.Sequential(
            nn.Conv2d(width, config.ffn_hidden_channels, 1),
            nn.Tanh(),
            nn.Conv2d(config.ffn_hidden_channels, config.ffn_out_channels, 1),
        )

    def forward(self, codes: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """codes: (B, n <= L, token_size); lengths: int (B,) tokens to keep, all if None
        -> features (B, ffn_out_channels, grid, grid).

        A token that is missing is a zero vector after the embedding, before its position is added.
        """
        batch, count, _ = codes.shape
        latents = self.decoder_embed(codes)  # (B, n, W)
        if lengths is not None:
            kept = torch.arange(count, device=codes.device) < lengths[:, None]  # (B, n)
            latents = latents * kept[..., None]
        latents = F.pad(latents, (0, 0, 0, self.latent_token_positional_embedding.shape[0] - count))
        latents = latents + self.latent_token_positional_embedding
        x = torch.cat([self.class_embedding[None], self.mask_token.expand(1, self.grid**2, -1)], dim=1)
        x = (x + self.positional_embedding).expand(batch, -1, -1)
        x = self.ln_pre(torch.cat([x, latents], dim=1))
        for block in self.transformer:
            x = block(x)
        x = self.ln_post(x[:, 1 : 1 + self.grid**2])  # (B, grid^2, W)
        return self.ffn(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)))


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice.

    Where the channels change, the released model adds a 1x1 convolution of the branch's own output and
    drops the input; the weights depend on it.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(out_channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(y) if hasattr(self, "nin_shortcut") else x)


class UpLevel(nn.Module):
    """The residual blocks of one resolution, then (except at the last) doubling of the side."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, groups: int, doubles: bool):
        super().__init__()
        self.block = nn.ModuleList(
            ResBlock(in_channels if i == 0 else out_channels, out_channels, groups) for i in range(num_blocks)
        )
        if doubles:
            self.upsample_conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.block:
            x = block(x)
        if hasattr(self, "upsample_conv"):
            x = self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class PixelDecoder(nn.Module):
    """Features (B, ffn_out_channels, grid, grid) -> picture (B, pixel_out_channels, S, S)."""

    def __init__(self, config: MaskTokenizerConfig):
        super().__init__()
        channels = [config.pixel_hidden_channels * mult for mult in config.pixel_channel_mult]
        blocks, groups = config.pixel_num_res_blocks, config.group_norm_groups
        self.conv_in = nn.Conv2d(config.ffn_out_channels, channels[-1], 3, padding=1)
        self.mid = nn.ModuleList(ResBlock(channels[-1], channels[-1], groups) for _ in range(blocks))
        # `up` is indexed by level: 0 is the finest, the last is the coarsest and runs first.
        self.up = nn.ModuleList(
            UpLevel(channels[min(level + 1, len(channels) - 1)], out, blocks, groups, doubles=level > 0)
            for level, out in enumerate(channels)
        )
        self.norm_out = nn.GroupNorm(groups, channels[0], eps=1e-6)
        self.conv_out = nn.Conv2d(channels[0], config.pixel_out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for block in self.mid:
            x = block(x)
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))
