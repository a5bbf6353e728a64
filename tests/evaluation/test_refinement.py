"""Scores before and after refinement, with refiners whose effect is known."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from himtok_core.chat import Chat, load
from himtok_core.data.scenes import HELD_OUT_SEED, make_scene
from himtok_core.data.world import World
from himtok_core.evaluation.refinement import (
    ANSWERS,
    DrawnScene,
    MaskScores,
    answered,
    refined_scores,
    round_trips,
    unrefined_scores,
)
from himtok_core.geometry import mask_from_probability, stretch_mask
from himtok_core.refine import RefinedMask


class Standing:
    """Stands in for SamRefiner: every mask becomes what `change` makes of it at the picture's size."""

    def __init__(self, change: object):
        self.change = change
        self.embedded = 0
        self.asked: list[str] = []

    def embed(self, picture: Image.Image) -> Image.Image:
        self.embedded += 1
        return picture

    def refine(self, embedding: Image.Image, maps: list[np.ndarray], prompts: str) -> list[RefinedMask]:
        self.asked.append(prompts)
        masks = [self.change(mask_from_probability(each, embedding.size)) for each in maps]
        return [RefinedMask(mask, np.zeros((256, 256), np.float32), 1.0) for mask in masks]


@pytest.fixture(scope="module")
def mini_chat() -> Chat:
    return load(Path(__file__).parents[2] / "assets" / "himtok-mini", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[DrawnScene]:
    """Two scenes whose drawn masks are the true ones, coarse and fine."""
    made = []
    for number in (HELD_OUT_SEED, HELD_OUT_SEED + 1):
        scene = make_scene(number, World.mini())
        truths = [item.mask for item in scene.objects]
        drawn = {str(side): [stretch_mask(mask, side) for mask in truths] for side in (16, 64)}
        made.append(DrawnScene(scene.picture, truths, drawn))
    return made


def test_unrefined_scores_are_those_of_the_stretched_maps(scenes: list[DrawnScene]) -> None:
    scores = unrefined_scores(scenes)
    assert scores.keys() == {"16", "64"}
    assert 0.6 < scores["16"].mean_iou < scores["64"].mean_iou < 1
    assert scores["16"].boundary_f < scores["64"].boundary_f
    assert scores["16"].count == sum(len(scene.truths) for scene in scenes)


def test_a_refiner_that_changes_nothing_scores_the_same(scenes: list[DrawnScene]) -> None:
    refiner = Standing(lambda mask: mask)
    assert refined_scores(refiner, scenes, "reference") == unrefined_scores(scenes)
    assert refiner.embedded == len(scenes)  # once a picture, however its masks were drawn
    assert set(refiner.asked) == {"reference"}


def test_a_refiner_that_empties_scores_nothing(scenes: list[DrawnScene]) -> None:
    for score in refined_scores(Standing(np.zeros_like), scenes).values():
        assert score.mean_iou == 0 and score.boundary_f == 0


def test_scores_of_known_masks() -> None:
    square = np.zeros((40, 40), bool)
    square[10:20, 10:20] = True
    double = np.zeros((40, 40), bool)
    double[10:20, 10:30] = True
    score = MaskScores.of([square, square], [square, double])
    assert (score.count, score.mean_iou) == (2, 0.75)
    assert 0.5 < score.boundary_f < 1
    nothing = MaskScores.of([], [])
    assert nothing.count == 0 and math.isnan(nothing.mean_iou)


def test_round_trips_get_better_with_tokens(mini_chat: Chat) -> None:
    drawn = round_trips(mini_chat.mask_tokenizer, World.mini(), 4, lengths=(1, 32))
    assert [scene.picture.size for scene in drawn] == [
        make_scene(HELD_OUT_SEED + number, World.mini()).size for number in range(4)
    ]
    scores = unrefined_scores(drawn)
    assert scores["1"].mean_iou < scores["32"].mean_iou
    later = round_trips(mini_chat.mask_tokenizer, World.mini(), 1, seed=3, lengths=(1, 32))
    assert np.array_equal(later[0].drawn["32"][0], drawn[3].drawn["32"][0])


def test_answers_are_about_the_object_that_was_asked_for(mini_chat: Chat) -> None:
    drawn = answered(mini_chat, World.mini(), 12)
    assert 5 <= len(drawn) <= 12
    for scene in drawn:
        assert len(scene.truths) == len(scene.drawn[ANSWERS]) == 1
        assert scene.truths[0].shape == scene.picture.size[::-1]
    assert unrefined_scores(drawn)[ANSWERS].mean_iou > 0.3
