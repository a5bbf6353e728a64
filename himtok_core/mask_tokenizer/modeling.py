"""MaskTokenizer: masks <-> mask tokens, coarse to fine (section 3 of the paper).

Knows masks at its own resolution S x S. Stretching a mask to a picture and back is `geometry`'s work.
"""

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from ..errors import MaskError
from .configuration import MaskTokenizerConfig
from .decoder import MaskDecoder, PixelDecoder
from .encoder import MaskEncoder
from .quantizer import VectorQuantizer
from .released import SIZES_NAME, check_shapes, find_standalone, mask_tokenizer_config, read_standalone


class MaskTokenizer(PreTrainedModel):
    """The 1-D mask tokenizer with the released model's structure and parameter names.

    L = config.num_latent_tokens, K = config.codebook_size, S = config.mask_size below.
    """

    config_class = MaskTokenizerConfig
    base_model_prefix = "mask_tokenizer"
    main_input_name = "masks"
    _no_split_modules = ["ResidualAttentionBlock"]
    # Its attention is torch's own module; whatever the rest of a model is told to use is fine with it.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: MaskTokenizerConfig):
        super().__init__(config)
        self.latent_tokens = nn.Parameter(torch.zeros(config.num_latent_tokens, config.encoder_width))
        self.encoder = MaskEncoder(config)
        self.quantize = VectorQuantizer(config)
        self.decoder = MaskDecoder(config)
        self.pixel_decoder = PixelDecoder(config)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *args: object, **kwargs: object
    ) -> Self:
        """As in transformers; besides, from the paper's stand-alone `himtok.pth`.

        Args:
            pretrained_model_name_or_path: that file, or a folder that holds it and no config.json; its sizes
                are those that a himt_config.json beside it states, the `released` preset if there is none.
                Or, as in transformers, a folder or hub id.
            dtype: of the weights; as stored if None. Of transformers' options the only one for that file.

        Raises:
            CheckpointError: if the stand-alone file cannot be read, or a tensor in it is missing, left over
                or of the wrong shape.
        """
        file = find_standalone(pretrained_model_name_or_path)
        if file is not None:
            return cls._standalone(file, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def _standalone(cls, file: Path, dtype: torch.dtype | None = None) -> Self:
        with torch.device("meta"):
            model = cls(mask_tokenizer_config(file.parent / SIZES_NAME))
        tensors = read_standalone(file)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        check_shapes({name: tensor.shape for name, tensor in tensors.items()}, expected)
        model.load_state_dict(tensors, assign=True)
        return model.to(dtype or tensors["latent_tokens"].dtype).eval()

    @torch.no_grad()
    def encode(self, masks: torch.Tensor) -> torch.Tensor:
        """Masks -> mask tokens.

        Args:
            masks: bool or float in [0, 1], (B, H, W) or (H, W). Stretched to S x S (antialiased bilinear), so
                that the mask always covers the whole picture.

        Returns:
            int64 (B, L), values in [0, K).

        Raises:
            MaskError: if the shape or the range is wrong.
        """
        if masks.ndim == 2:
            masks = masks[None]
        if masks.ndim != 3 or 0 in masks.shape:
            raise MaskError(f"masks must be (B, H, W) with no empty side, not {tuple(masks.shape)}")
        masks = masks.to(self.device, self.dtype)
        low, high = masks.aminmax()
        if not (low >= 0 and high <= 1):
            raise MaskError(f"mask values must lie in [0, 1], not [{low.item():.3g}, {high.item():.3g}]")
        size = self.config.mask_size
        if masks.shape[1:] != (size, size):
            masks = F.interpolate(masks[:, None], (size, size), mode="bilinear", antialias=True)[:, 0].clamp(
                0, 1
            )
        return self.quantize.nearest(self.encoder(masks, self.latent_tokens))

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mask tokens -> mask probability ("hard" decoding).

        Args:
            tokens: int (B, n) with 1 <= n <= L, values in [0, K); a missing tail is decoded as zeros.

        Returns:
            (B, S, S) in [0, 1]; the mask is where it exceeds 0.5.

        Raises:
            MaskError: if the shape or a value is wrong.
        """
        return self.draw(self.quantize.lookup(self._checked(tokens)))

    @torch.no_grad()
    def decode_soft(self, codebook_probs: torch.Tensor) -> torch.Tensor:
        """Distributions over the codebook -> mask probability, as the paper's model decodes its own answers.

        Args:
            codebook_probs: float (B, n, K) with 1 <= n <= L; each row is softmax(2 x logits) over the K mask
                tokens.

        Returns:
            (B, S, S) in [0, 1].

        Raises:
            MaskError: if the shape is wrong.
        """
        if codebook_probs.ndim != 3 or codebook_probs.shape[2] != self.config.codebook_size:
            raise MaskError(
                f"codebook_probs must be (B, n, {self.config.codebook_size}), "
                f"not {tuple(codebook_probs.shape)}"
            )
        self._check_count(codebook_probs.shape[1])
        return self.draw(self.quantize.expectation(codebook_probs.to(self.device, self.dtype)))

    @torch.no_grad()
    def decode_prefixes(self, tokens: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """Decode several prefixes of the same tokens in one batched pass.

        Args:
            tokens: int (B, n) as in `decode`, or float (B, n, K) as in `decode_soft`.
            lengths: prefix lengths, each in 1..n.

        Returns:
            (B, len(lengths), S, S) in [0, 1].

        Raises:
            MaskError: if a shape, value or length is wrong.
        """
        if tokens.ndim == 3:
            self._check_count(tokens.shape[1])
            codes = self.quantize.expectation(tokens.to(self.device, self.dtype))
        else:
            codes = self.quantize.lookup(self._checked(tokens))
        count = codes.shape[1]
        wrong = [length for length in lengths if not 1 <= length <= count]
        if wrong or not lengths:
            raise MaskError(f"prefix lengths must lie in 1..{count}, got {wrong or 'none'}")
        kept = torch.tensor(lengths, device=codes.device).repeat(codes.shape[0])  # (B * P,)
        codes = codes.repeat_interleave(len(lengths), dim=0)  # (B * P, n, D)
        return self.draw(codes, kept).unflatten(0, (-1, len(lengths)))

    def draw(self, codes: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Code vectors (B, n, token_size) -> mask probability (B, S, S); differentiable.

        The probability is sigmoid(5 x (mean over the pixel decoder's channels - 0.5)).
        """
        return torch.sigmoid(self.draw_logits(codes, lengths))

    def draw_logits(self, codes: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """As `draw`, before the sigmoid."""
        return 5.0 * (self.pixel_decoder(self.decoder(codes, lengths)).mean(dim=1) - 0.5)

    def _checked(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2 or tokens.is_floating_point():
            raise MaskError(f"tokens must be integers (B, n), not {tokens.dtype} {tuple(tokens.shape)}")
        self._check_count(tokens.shape[1])
        if tokens.numel() and not (tokens.min() >= 0 and tokens.max() < self.config.codebook_size):
            raise MaskError(
                f"mask tokens must lie in [0, {self.config.codebook_size}), "
                f"got {tokens.min().item()}..{tokens.max().item()}"
            )
        return tokens.to(self.device, torch.int64)

    def _check_count(self, count: int) -> None:
        limit = self.config.num_latent_tokens
        if not 1 <= count <= limit:
            raise MaskError(f"a mask has 1 to {limit} tokens, got {count}")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial values that learn: with everything at a small scale the codes collapse."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
            nn.init.zeros_(module.in_proj_bias)
        elif isinstance(module, MaskTokenizer):
            nn.init.normal_(module.latent_tokens, std=1.0)
            codes = module.quantize.embedding.weight
            codes.copy_(F.normalize(torch.randn_like(codes), dim=-1))
            nn.init.eye_(module.quantize.embedding_proj.weight)
            module.pixel_decoder.conv_out.weight.mul_(0.1)  # begins as an almost empty mask
        elif isinstance(module, MaskEncoder | MaskDecoder):
            nn.init.normal_(module.class_embedding, std=0.3)
            side = round((module.positional_embedding.shape[0] - 1) ** 0.5)
            module.positional_embedding.copy_(sine_positions(side, module.positional_embedding.shape[1]))
            nn.init.normal_(module.latent_token_positional_embedding, std=0.3)
            if isinstance(module, MaskDecoder):
                nn.init.normal_(module.mask_token, std=0.3)
                # Codes are unit vectors; scaled by sqrt(token_size) their entries have unit variance.
                module.decoder_embed.weight.normal_(std=1.0)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


def sine_positions(side: int, width: int) -> torch.Tensor:
    """2-D sine-cosine table with a zero row first for the class token: (side^2 + 1, width)."""
    frequencies = torch.exp(torch.arange(width // 4) * (-torch.log(torch.tensor(100.0)) / (width // 4)))
    where = torch.arange(side)[:, None] * frequencies * (16 / side)  # (side, width/4)
    waves = torch.cat([where.sin(), where.cos()], dim=1)  # (side, width/2)
    rows = waves[:, None].expand(side, side, -1)
    columns = waves[None].expand(side, side, -1)
    table = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros(1, table.shape[1]), table])
