"""Sizes of the mask tokenizer. Knows numbers only; the layers are built from them in the sibling modules."""

from transformers import PreTrainedConfig


class MaskTokenizerConfig(PreTrainedConfig):
    """Sizes of the 1-D mask tokenizer (HiMT in the paper).

    Attributes:
        mask_size: side S of the square mask that goes in and comes out, in pixels.
        patch_size: side of an encoder patch; the grid has (mask_size / patch_size)^2 cells.
        num_latent_tokens: mask tokens of a complete mask (32 in the paper).
        token_size, codebook_size: dimension and number of the codes (12 and 1024).
        encoder_width/layers/heads, decoder_width/layers/heads, mlp_ratio: the two transformers.
        ffn_hidden_channels, ffn_out_channels: the two 1x1 convolutions between decoder and pixel decoder.
        pixel_hidden_channels, pixel_channel_mult, pixel_num_res_blocks, pixel_out_channels: the pixel
            decoder; it doubles the side len(pixel_channel_mult) - 1 times.
        group_norm_groups: groups of every GroupNorm of the pixel decoder.

    Raises:
        ValueError: if the sizes do not fit together.
    """

    model_type = "himtok_mask_tokenizer"
    base_config_key = "mask_tokenizer_config"

    mask_size: int = 256
    patch_size: int = 16
    num_latent_tokens: int = 32
    token_size: int = 12
    codebook_size: int = 1024
    encoder_width: int = 1024
    encoder_layers: int = 24
    encoder_heads: int = 16
    decoder_width: int = 1024
    decoder_layers: int = 24
    decoder_heads: int = 16
    mlp_ratio: float = 4.0
    ffn_hidden_channels: int = 2048
    ffn_out_channels: int = 1024
    pixel_hidden_channels: int = 128
    pixel_channel_mult: tuple[int, ...] | list[int] = (1, 1, 2, 2, 4)
    pixel_num_res_blocks: int = 2
    pixel_out_channels: int = 3
    group_norm_groups: int = 32
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        self.pixel_channel_mult = list(self.pixel_channel_mult)
        if self.mask_size % self.patch_size:
            raise ValueError(f"mask_size {self.mask_size} is not a multiple of patch_size {self.patch_size}")
        drawn = self.grid_size * 2 ** (len(self.pixel_channel_mult) - 1)
        if drawn != self.mask_size:
            raise ValueError(
                f"a grid of {self.grid_size} doubled {len(self.pixel_channel_mult) - 1} times gives {drawn} "
                f"pixels, not mask_size {self.mask_size}: change patch_size or pixel_channel_mult"
            )
        if self.encoder_width % self.num_latent_tokens:
            raise ValueError(
                f"encoder_width {self.encoder_width} is not a multiple of the {self.num_latent_tokens} "
                "latent tokens"
            )
        super().__post_init__(**kwargs)

    @property
    def grid_size(self) -> int:
        """Cells per side of the patch grid."""
        return self.mask_size // self.patch_size

    @classmethod
    def released(cls) -> "MaskTokenizerConfig":
        """The sizes of the released 8B checkpoint (644 M parameters)."""
        return cls()

    @classmethod
    def mini(cls) -> "MaskTokenizerConfig":
        """The sizes of himtok-mini (about 1 M parameters)."""
        return cls(
            mask_size=64,
            patch_size=8,
            encoder_width=128,
            encoder_layers=2,
            encoder_heads=4,
            decoder_width=128,
            decoder_layers=3,
            decoder_heads=4,
            ffn_hidden_channels=256,
            ffn_out_channels=64,
            pixel_hidden_channels=8,
            pixel_channel_mult=(1, 1, 4, 8),
            pixel_num_res_blocks=1,
            pixel_out_channels=1,
            group_norm_groups=4,
        )
