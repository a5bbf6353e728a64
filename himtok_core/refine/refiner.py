"""SamRefiner: a picture and the masks drawn for it -> sharper masks (the supplement, section C).

Owns every change of size, so that the outside sees pictures and masks at the picture's own size. Keeps
nothing of a picture: its embedding belongs to the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from ..errors import HimtokError, MaskError
from ..images import PictureSource, open_picture
from ..reply import Reply
from .frame import Frame
from .loading import load_sam
from .modeling import RefinementSam
from .prompts import Prompts, prompts_as_reference, prompts_from_masks

PROBABILITY_SIZE = 256
BATCH = 32  # masks that go through the decoder together

PromptKind = Literal["mask", "reference"]


@dataclass(frozen=True, eq=False)
class PictureEmbedding:
    """What SAM sees in one picture: features float32 (1, C, G, G), and where it lies in SAM's input."""

    features: torch.Tensor
    frame: Frame

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels."""
        return self.frame.size


@dataclass(frozen=True, eq=False)
class RefinedMask:
    """M_out.

    mask: bool [H, W] at the picture's size. probability: float32 [256, 256] in 0..1, stretched over the whole
    picture as a ReplyObject's. iou_prediction: SAM's own guess of the mask's IoU with the truth, about 0..1.
    """

    mask: np.ndarray
    probability: np.ndarray
    iou_prediction: float


class SamRefiner:
    """A SAM that sharpens masks; holds no picture, so threads may share it."""

    def __init__(self, model: RefinementSam, name: str = "sam"):
        self.model = model
        self.name = name

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, device: str | torch.device | None = None) -> Self:
        """Loads a refiner in float32.

        Args:
            name_or_path: a file of public SAM (sam_vit_b_*.pth and its like, or .safetensors), of the
                reference's finetuned variant (sam.pth), a folder that holds one of them, a folder of our own
                (config.json and model.safetensors, such as assets/sam-mini), or a hub id of any of these
                such as "yayafengzi/InternVL2_5-HiMTok-8B". Only a hub id is looked for on the network.
            device: "cpu", "cuda", "cuda:1", "mps"; the accelerator if there is one by default.

        Raises:
            CheckpointError: no such weights, or they do not fit. HimtokError: no such device.
        """
        path = Path(name_or_path).expanduser()
        name = path.resolve().name if path.exists() else str(name_or_path)
        return cls(load_sam(name_or_path, device), name)

    @torch.inference_mode()
    def embed(self, picture: PictureSource) -> PictureEmbedding:
        """What SAM sees in a picture (path, PIL image, uint8 [H, W, 3], bytes or file), for all its masks.

        Raises PictureError if it cannot be used.
        """
        image = open_picture(picture)
        frame = Frame.of(image.size, self.model.config)
        return PictureEmbedding(self.model.embed(frame.enter(image)[None].to(self.model.device)), frame)

    @torch.inference_mode()
    def refine(
        self, embedding: PictureEmbedding, probabilities: Sequence[np.ndarray], prompts: PromptKind = "mask"
    ) -> list[RefinedMask]:
        """Draws each of several masks of one picture anew.

        Args:
            embedding: of the picture, from `embed`.
            probabilities: M_in, each float or bool [S, T] in 0..1, stretched over the whole picture.
            prompts: "mask" asks with a point deep inside the thresholded mask, its box (where the weights
                take boxes) and the map itself; "reference" as the reference implementation does.

        Returns:
            one mask for each; one that is nowhere above 0.5 stays empty, with an iou_prediction of 0.

        Raises:
            MaskError: a map is not two-dimensional or leaves 0..1. HimtokError: no such kind of prompts.
        """
        if prompts not in ("mask", "reference"):
            raise HimtokError(f'prompts is "mask" or "reference", not {prompts!r}.')
        width, height = embedding.size
        nothing = np.zeros((PROBABILITY_SIZE, PROBABILITY_SIZE), np.float32)
        refined = [RefinedMask(np.zeros((height, width), bool), nothing, 0.0) for _ in probabilities]
        device = self.model.device
        maps = [embedding.frame.enter_maps(_checked(item)[None].to(device)) for item in probabilities]
        filled = [index for index, entered in enumerate(maps) if (entered > 0.5).any()]
        for start in range(0, len(filled), BATCH):
            chosen = filled[start : start + BATCH]
            asked = self.prompts(torch.cat([maps[index] for index in chosen]), prompts)
            logits, ious = self.model.draw(embedding.features, asked)
            for index, drawn, iou in zip(chosen, logits.split(1), ious.tolist(), strict=True):
                mask = embedding.frame.leave(drawn)[0] > 0
                small = embedding.frame.leave_probability(drawn, PROBABILITY_SIZE)[0]
                refined[index] = RefinedMask(mask.cpu().numpy(), small.cpu().numpy(), iou)
        return refined

    def prompts(self, maps: torch.Tensor, kind: PromptKind) -> Prompts:
        """What the model is asked about maps in its own frame, (N, mask_size, mask_size) in 0..1."""
        config = self.model.config
        scale = config.image_size // config.mask_size
        if kind == "reference":
            return prompts_as_reference(maps, scale)
        return prompts_from_masks(maps, scale, boxes=not config.reference)


def refine_reply(
    refiner: SamRefiner,
    picture: PictureSource | PictureEmbedding,
    reply: Reply,
    prompts: PromptKind = "mask",
) -> Reply:
    """The same reply with every mask drawn anew; tokens, probabilities and boxes stay what the model said.

    A mask of which SAM would leave nothing stays as it was: a reply never shows an empty mask.

    Args:
        picture: what the reply is about, or its embedding if more replies follow.

    Raises:
        MaskError: if picture and reply are not of one size.
    """
    drawn = [index for index, item in enumerate(reply.objects) if item.mask is not None]
    if not drawn:
        return reply
    embedding = picture if isinstance(picture, PictureEmbedding) else refiner.embed(picture)
    if embedding.size != tuple(reply.size):
        raise MaskError(f"The reply is about a picture of {reply.size} pixels, not of {embedding.size}.")
    objects = list(reply.objects)
    inputs = [
        objects[index].mask if objects[index].probability is None else objects[index].probability
        for index in drawn
    ]
    for index, refined in zip(drawn, refiner.refine(embedding, inputs, prompts), strict=True):
        if refined.mask.any():
            objects[index] = replace(objects[index], mask=refined.mask)
    return replace(reply, objects=tuple(objects))


def _checked(probability: np.ndarray) -> torch.Tensor:
    """-> float32 [S, T] in 0..1."""
    array = np.asarray(probability)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "bf":
        found = f"{array.dtype} {array.shape}"
        raise MaskError(f"A mask to refine is two-dimensional, bool or float, not {found}.")
    # Written so that NaN fails too.
    if not (array.min() >= 0 and array.max() <= 1 + 1e-4):
        reach = f"{array.min()} to {array.max()}"
        raise MaskError(f"A mask to refine lies in 0..1, but this one reaches from {reach}.")
    return torch.from_numpy(array.astype(np.float32)).clamp(0, 1)
