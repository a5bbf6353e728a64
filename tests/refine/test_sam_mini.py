"""The shipped sam-mini with the shipped himtok-mini: masks get better, quickly, from a small file."""

import time
from pathlib import Path

import pytest

import himtok_core as himtok
from himtok_core.data.world import World
from himtok_core.evaluation.refinement import ANSWERS, answered, refined_scores, round_trips, unrefined_scores

ASSETS = Path(__file__).parents[2] / "assets"
SEED = 7000  # of the first held-out scene; none of these chose anything


@pytest.fixture(scope="module")
def chat() -> himtok.Chat:
    return himtok.load(ASSETS / "himtok-mini", device="cpu")


@pytest.fixture(scope="module")
def refiner() -> himtok.SamRefiner:
    return himtok.SamRefiner.from_pretrained(ASSETS / "sam-mini", device="cpu")


def test_round_trips_get_better(chat: himtok.Chat, refiner: himtok.SamRefiner) -> None:
    scenes = round_trips(chat.mask_tokenizer, World.mini(), 30, SEED)
    before, after = unrefined_scores(scenes), refined_scores(refiner, scenes)
    for length in ("8", "32"):
        assert after[length].mean_iou > before[length].mean_iou + 0.04
        # How much there is to gain depends on the tokenizer that drew the masks.
        assert 1 - after[length].boundary_f < 0.5 * (1 - before[length].boundary_f)


def test_answers_get_better(chat: himtok.Chat, refiner: himtok.SamRefiner) -> None:
    scenes = answered(chat, World.mini(), 40, SEED)
    before, after = unrefined_scores(scenes)[ANSWERS], refined_scores(refiner, scenes)[ANSWERS]
    assert after.count >= 25
    assert 1 - after.mean_iou < 0.5 * (1 - before.mean_iou)
    assert after.boundary_f > before.boundary_f + 0.3


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in (ASSETS / "sam-mini").iterdir()) < 10_000_000


def test_it_is_quick(chat: himtok.Chat, refiner: himtok.SamRefiner) -> None:
    """Embedding and four masks; the limit is far above an idle machine's time, for a busy one."""
    scene = round_trips(chat.mask_tokenizer, World.mini(), 1, SEED)[0]
    maps = (scene.drawn["32"] * 4)[:4]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        refiner.refine(refiner.embed(scene.picture), maps)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3
