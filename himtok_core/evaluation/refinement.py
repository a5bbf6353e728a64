"""What refinement is worth on held-out scenes: masks through the mask tokenizer and a model's own answers,
before and after SAM.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .. import geometry
from ..chat import Chat
from ..data.questions import ask
from ..data.scenes import HELD_OUT_SEED, make_scene
from ..data.world import World
from ..mask_tokenizer import MaskTokenizer
from ..refine import SamRefiner
from ..refine.refiner import PromptKind
from . import metrics
from .segmentation import boundary_f

LENGTHS = (8, 32)
ANSWERS = "answers"
QUESTION = "segment"
BATCH = 16  # questions that a model answers together


@dataclass(frozen=True)
class MaskScores:
    """Mean IoU and mean boundary F-score of `count` masks, both 0..1; nan for none."""

    count: int
    mean_iou: float
    boundary_f: float

    @classmethod
    def of(cls, masks: list[np.ndarray], truths: list[np.ndarray]) -> "MaskScores":
        """Scores of bool masks [H, W] against their truths."""
        pairs = list(zip(masks, truths, strict=True))
        return cls(
            len(pairs),
            metrics.giou([metrics.overlap(mask, truth) for mask, truth in pairs]),
            metrics.mean([boundary_f(mask, truth) for mask, truth in pairs]),
        )


@dataclass(frozen=True)
class DrawnScene:
    """A held-out scene and the masks that were drawn for it.

    truths: bool [H, W] each. drawn: how they were drawn -> one map, float32 [S, S] in 0..1, for each truth.
    """

    picture: Image.Image
    truths: list[np.ndarray]
    drawn: dict[str, list[np.ndarray]]


def round_trips(
    tokenizer: MaskTokenizer, world: World, count: int, seed: int = 0, lengths: tuple[int, ...] = LENGTHS
) -> list[DrawnScene]:
    """Held-out scenes number `seed` and on, all their masks encoded and drawn from their first tokens."""
    scenes = (make_scene(HELD_OUT_SEED + seed + number, world) for number in range(count))
    pictured = ((scene.picture, [item.mask for item in scene.objects]) for scene in scenes)
    return drawn_from(pictured, tokenizer, lengths)


def drawn_from(
    pictured: Iterable[tuple[Image.Image, list[np.ndarray]]],
    tokenizer: MaskTokenizer,
    lengths: tuple[int, ...] = LENGTHS,
) -> list[DrawnScene]:
    """Pictures and their true masks, bool [H, W] -> the same with the masks drawn from their first tokens.

    Pictures without masks are left out. The key of a way of drawing is the number of tokens.
    """
    scenes = []
    for picture, truths in pictured:
        if not truths:
            continue
        stretched = np.stack([geometry.stretch_mask(mask, tokenizer.config.mask_size) for mask in truths])
        tokens = tokenizer.encode(torch.from_numpy(stretched))
        prefixes = tokenizer.decode_prefixes(tokens, list(lengths)).float().cpu().numpy()  # (N, P, S, S)
        drawn = {str(length): list(prefixes[:, place]) for place, length in enumerate(lengths)}
        scenes.append(DrawnScene(picture, truths, drawn))
    return scenes


def answered(chat: Chat, world: World, count: int, seed: int = 0) -> list[DrawnScene]:
    """Held-out scenes for which the model drew the one thing it was asked to segment: at most `count`.

    Answers without a mask are left out: there is nothing to refine. The key of the way of drawing is ANSWERS.
    """
    asked = []
    for number in range(HELD_OUT_SEED + seed, HELD_OUT_SEED + seed + count):
        scene = make_scene(number, world)
        question = ask(scene, QUESTION, np.random.default_rng([number, 1]), world)
        if question is not None:
            asked.append((scene.picture, question))
    scenes = []
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        pictures, questions = zip(*batch, strict=True)
        replies = chat.ask_batch(pictures, [question.prompt for question in questions])
        for (picture, question), reply in zip(batch, replies, strict=True):
            maps = [item.probability for item in reply.objects if item.probability is not None]
            if maps:
                scenes.append(DrawnScene(picture, list(question.answer_masks[:1]), {ANSWERS: maps[:1]}))
    return scenes


def unrefined_scores(scenes: list[DrawnScene]) -> dict[str, MaskScores]:
    """Scores of the masks as they were drawn, for each way of drawing."""
    masks = {way: [] for way in scenes[0].drawn} if scenes else {}
    for scene in scenes:
        for way, maps in scene.drawn.items():
            masks[way] += [geometry.mask_from_probability(each, scene.picture.size) for each in maps]
    return _scores(masks, scenes)


def refined_scores(
    refiner: SamRefiner, scenes: list[DrawnScene], prompts: PromptKind = "mask"
) -> dict[str, MaskScores]:
    """Scores of the same masks after refinement."""
    masks = {way: [] for way in scenes[0].drawn} if scenes else {}
    for scene in scenes:
        embedding = refiner.embed(scene.picture)
        for way, maps in scene.drawn.items():
            masks[way] += [item.mask for item in refiner.refine(embedding, maps, prompts)]
    return _scores(masks, scenes)


def _scores(masks: dict[str, list[np.ndarray]], scenes: list[DrawnScene]) -> dict[str, MaskScores]:
    truths = [truth for scene in scenes for truth in scene.truths]
    return {way: MaskScores.of(drawn, truths) for way, drawn in masks.items()}
