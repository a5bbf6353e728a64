"""What refinement is worth: masks of held-out scenes through the mask tokenizer, before and after SAM."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .. import geometry
from ..data.scenes import HELD_OUT_SEED, World, make_scene
from ..mask_tokenizer import MaskTokenizer
from ..refine import SamRefiner
from ..refine.refiner import PromptKind
from . import metrics
from .segmentation import boundary_f

LENGTHS = (8, 32)


@dataclass(frozen=True)
class MaskScores:
    """Mean IoU and mean boundary F-score of some masks, both 0..1."""

    mean_iou: float
    boundary_f: float

    @classmethod
    def of(cls, masks: list[np.ndarray], truths: list[np.ndarray]) -> "MaskScores":
        """Scores of bool masks [H, W] against their truths."""
        pairs = list(zip(masks, truths, strict=True))
        return cls(
            metrics.giou([metrics.overlap(mask, truth) for mask, truth in pairs]),
            metrics.mean([boundary_f(mask, truth) for mask, truth in pairs]),
        )


@dataclass(frozen=True)
class DrawnScene:
    """A held-out scene and what the de-tokenizer makes of its objects' masks.

    drawn: number of tokens -> float32 [N, S, S], one map for each of the N objects.
    """

    picture: Image.Image
    truths: list[np.ndarray]
    drawn: dict[int, np.ndarray]


def drawn_scenes(
    tokenizer: MaskTokenizer, world: World, count: int, seed: int = 0, lengths: tuple[int, ...] = LENGTHS
) -> list[DrawnScene]:
    """Held-out scenes number `seed` and on, their masks encoded and decoded from their first tokens."""
    scenes = []
    for number in range(HELD_OUT_SEED + seed, HELD_OUT_SEED + seed + count):
        scene = make_scene(number, world)
        truths = [item.mask for item in scene.objects]
        stretched = np.stack([geometry.stretch_mask(mask, tokenizer.config.mask_size) for mask in truths])
        tokens = tokenizer.encode(torch.from_numpy(stretched))
        prefixes = tokenizer.decode_prefixes(tokens, list(lengths)).float().cpu().numpy()  # (N, P, S, S)
        drawn = {length: prefixes[:, place] for place, length in enumerate(lengths)}
        scenes.append(DrawnScene(scene.picture, truths, drawn))
    return scenes


def unrefined_scores(scenes: list[DrawnScene]) -> dict[int, MaskScores]:
    """Scores of the masks as the de-tokenizer draws them, by the number of tokens."""
    return {
        length: MaskScores.of(
            [
                geometry.mask_from_probability(probability, scene.picture.size)
                for scene in scenes
                for probability in scene.drawn[length]
            ],
            [truth for scene in scenes for truth in scene.truths],
        )
        for length in scenes[0].drawn
    }


def refined_scores(
    refiner: SamRefiner, scenes: list[DrawnScene], prompts: PromptKind = "mask"
) -> dict[int, MaskScores]:
    """Scores of the same masks after refinement."""
    masks: dict[int, list[np.ndarray]] = {length: [] for length in scenes[0].drawn}
    for scene in scenes:
        embedding = refiner.embed(scene.picture)
        for length, maps in scene.drawn.items():
            masks[length] += [item.mask for item in refiner.refine(embedding, list(maps), prompts)]
    truths = [truth for scene in scenes for truth in scene.truths]
    return {length: MaskScores.of(drawn, truths) for length, drawn in masks.items()}
