"""The networks: segment_anything's classes at any size, and the reference implementation's changes to them.

Knows tensors in SAM's square input. Pictures, masks and how prompts come from them are `frame`'s and
`prompts`' work, files are `loading`'s.
"""

from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

from .configuration import SamConfig
from .prompts import Prompts

PIXEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet's pictures, as in public SAM
PIXEL_STD = (58.395, 57.12, 57.375)


class ReferencePromptEncoder(PromptEncoder):
    """The reference's prompt encoder: points of two kinds, a mask read by three wide convolutions."""

    def __init__(self, *, embed_dim: int, mask_in_chans: int, **sizes: tuple[int, int]):
        super().__init__(embed_dim=embed_dim, mask_in_chans=mask_in_chans, **sizes)
        self.point_embeddings = self.point_embeddings[:2]
        self.num_point_embeddings = 2
        del self.not_a_point_embed, self.no_mask_embed, self.mask_downscaling
        narrow = mask_in_chans // 4
        self.mask_downscaling2 = nn.Sequential(
            nn.Conv2d(1, narrow, kernel_size=7, stride=2, padding=3),
            LayerNorm2d(narrow),
            nn.SiLU(),
            nn.Conv2d(narrow, mask_in_chans, kernel_size=7, stride=2, padding=3),
            LayerNorm2d(mask_in_chans),
            nn.SiLU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=7, padding=3),
        )

    def _embed_points(self, points: torch.Tensor, labels: torch.Tensor, pad: bool) -> torch.Tensor:
        kinds = torch.cat([kind.weight for kind in self.point_embeddings])  # (2, C)
        places = self.pe_layer.forward_with_coords(points + 0.5, self.input_image_size)
        embedded = places + kinds[labels.long()]
        if pad:  # the padding point is a zero vector
            embedded = torch.cat([embedded, torch.zeros_like(embedded[:, :1])], dim=1)
        return embedded

    def _embed_masks(self, masks: torch.Tensor) -> torch.Tensor:
        return self.mask_downscaling2(masks)


class ScaledQueries(nn.Linear):
    """The joint projection of an attention layer, (..., W) -> (..., 3 W), its first third times `scale`."""

    def __init__(self, width: int, scale: float):
        super().__init__(width, 3 * width)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., W)."""
        queries, others = super().forward(x).tensor_split([self.in_features], dim=-1)
        return torch.cat([queries * self.scale, others], dim=-1)


def scale_queries_early(image_encoder: ImageEncoderViT) -> None:
    """The reference's image encoder: relative positions, too, are looked up with queries that are scaled.

    Public SAM scales them for the product with the keys only.
    """
    for block in image_encoder.blocks:
        attention = block.attn
        attention.qkv = ScaledQueries(attention.qkv.in_features, attention.scale)
        attention.scale = 1.0


class RefinementSam(Sam):
    """A SAM whose prompts are masks with the point and the box that follow from them.

    G = config.grid, C = config.prompt_dim, S = config.mask_size, I = config.image_size below.
    """

    def __init__(self, config: SamConfig):
        prompt_encoder = ReferencePromptEncoder if config.reference else PromptEncoder
        super().__init__(
            image_encoder=ImageEncoderViT(
                img_size=config.image_size,
                patch_size=config.patch_size,
                embed_dim=config.width,
                depth=config.depth,
                num_heads=config.heads,
                out_chans=config.prompt_dim,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=config.window,
                global_attn_indexes=config.global_layers,
            ),
            prompt_encoder=prompt_encoder(
                embed_dim=config.prompt_dim,
                image_embedding_size=(config.grid, config.grid),
                input_image_size=(config.image_size, config.image_size),
                mask_in_chans=config.mask_channels,
            ),
            mask_decoder=MaskDecoder(
                num_multimask_outputs=config.extra_masks,
                transformer=TwoWayTransformer(
                    depth=config.decoder_layers,
                    embedding_dim=config.prompt_dim,
                    num_heads=config.decoder_heads,
                    mlp_dim=config.decoder_mlp,
                ),
                transformer_dim=config.prompt_dim,
                iou_head_hidden_dim=config.iou_hidden,
            ),
            pixel_mean=list(PIXEL_MEAN),
            pixel_std=list(PIXEL_STD),
        )
        self.config = config
        if config.reference:
            scale_queries_early(self.image_encoder)

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures in 0..255, (B, 3, h, w) with h and w at most I -> embeddings (B, C, G, G).

        What is missing to I on the right and below is zeros after normalisation, as in public SAM.
        """
        return self.image_encoder(self.preprocess(pictures.to(self.pixel_mean.dtype)))

    def draw(self, embeddings: torch.Tensor, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
        """One mask for each prompt.

        Args:
            embeddings: (N, C, G, G), one for each prompt; (1, C, G, G) if all are about one picture.
            prompts: N of them.

        Returns:
            logits (N, S, S) of the masks, and the decoder's own guesses (N,) of their IoU with the truth.
        """
        sparse, dense = self.prompt_encoder(
            points=(prompts.points[:, None], prompts.labels[:, None]),
            boxes=prompts.boxes,
            masks=prompts.logits[:, None],
        )
        # The decoder repeats one picture's embedding for every prompt before it adds the prompt's own map;
        # as part of that map, prompts about several pictures go through in one batch.
        logits, ious = self.mask_decoder.predict_masks(
            image_embeddings=torch.zeros_like(embeddings[:1]),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=embeddings + dense,
        )  # (N, masks, S, S), (N, masks)
        if self.config.reference:
            return logits.mean(1), ious.mean(1)
        return logits[:, 0], ious[:, 0]
