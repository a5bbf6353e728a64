"""Pretraining the vision tower: a resumed run is the same run, and what it leaves for the next stage."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from himtok_core.data.scenes import HELD_OUT_SEED, Scene, World, make_scene
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.training import vision
from himtok_core.training.dense import DenseHeads
from himtok_core.training.scene_batches import world_names
from himtok_core.training.vision import Settings, name_token_ids, train, vocabulary_texts

from .conftest import Killed, Pace, assert_same, load_state

SMALL = Settings(steps=3, scenes=2)


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
    """A vocabulary from a few scenes, and one held-out scene over and over instead of many."""

    def one_held_out(seed: int, world: World) -> Scene:
        return make_scene(min(seed, HELD_OUT_SEED), world, (32, 32) if seed > HELD_OUT_SEED else None)

    pace.rules(vision, monkeypatch)
    monkeypatch.setattr(vision, "vocabulary_texts", partial(vocabulary_texts, scenes=5))
    monkeypatch.setattr(vision, "make_scene", one_held_out)


def test_stopped_killed_and_resumed_is_the_same_run(tmp_path: Path, pace: Pace, world: World) -> None:
    train(SMALL, tmp_path / "whole")
    train(SMALL, tmp_path / "parts", minutes=0.5)
    assert load_state(tmp_path / "parts")["step"] == 1
    pace.kill_at = 2
    with pytest.raises(Killed):
        train(SMALL, tmp_path / "parts")
    pace.kill_at = None
    train(SMALL, tmp_path / "parts")
    assert pace.steps == [0, 1, 2] + [0] + [1, 2] + [1, 2]
    assert_same(load_state(tmp_path / "whole"), load_state(tmp_path / "parts"))

    folder = tmp_path / "parts"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3]
    assert 0 <= rows[-1]["held_names"] <= 1 and rows[-1]["samples"] == 6

    model = HimtokForConditionalGeneration.from_pretrained(folder / "model")
    assert_same(dict(model.state_dict()), dict(load_state(folder)["model"]))
    processor = HimtokProcessor.from_pretrained(folder / "model")
    heads = DenseHeads(model.config.text_config.hidden_size, name_token_ids(processor, world), 32 * 12)
    heads.load_state_dict(torch.load(folder / "heads.pt", weights_only=True))


def test_the_vocabulary_is_made_of_questions_answers_and_names(world: World) -> None:
    texts = set(vocabulary_texts(world, scenes=5))
    assert set(world_names(world)) <= texts
    assert any(text.startswith("Segment <ref>") for text in texts)
    assert any("<mask>" in text for text in texts)
