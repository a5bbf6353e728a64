"""himtok-mini in one command: the order of the recipes, their time, and going on after a kill.

The recipes themselves have tests of their own; here they only write down when they were called, and how.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from himtok_core.data.world import WORLDS, World
from himtok_core.errors import DataError
from himtok_core.training import whole
from himtok_core.training.run_folder import RunFolder

from .conftest import Killed, Pace

PARTS = ("tokenizer", "vision", "boxes", "everything")


class Calls:
    """Stands in for every recipe: keeps a log as they do, on a clock of its own; a step takes ten seconds."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.seen, self.kill = pace, [], None

    def recipe(self, name: str) -> object:
        def train(settings: object, folder: Path) -> None:
            self.seen.append((name, settings.schedule_minutes))
            run = RunFolder(folder, asdict(settings))
            for done in range(1, run.steps):
                self.pace.now += 10
                if name == self.kill:
                    raise Killed
                if run.is_over(done):
                    break
            run.log(step=done, samples=done)
            (folder / "model").mkdir(exist_ok=True)

        return train


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, pace: Pace) -> Calls:
    calls, parts_of = Calls(pace), whole.parts_of

    def recorded(*asked: object) -> list[whole.Part]:
        return [replace(part, train=calls.recipe(part.name)) for part in parts_of(*asked)]

    def publish(run: Path, target: Path, world: World) -> None:
        assert (run / "model").is_dir()
        target.mkdir()
        (target / "concepts.json").write_text(json.dumps(len(world.concepts)))

    monkeypatch.setattr(whole, "parts_of", recorded)
    monkeypatch.setattr(whole, "publish", publish)
    return calls


def test_every_recipe_gets_its_share_of_the_time(calls: Calls, tmp_path: Path, pace: Pace) -> None:
    target = whole.train(tmp_path, "mini", minutes=100)
    assert tuple(name for name, _ in calls.seen) == PARTS
    assert sum(minutes for _, minutes in calls.seen) == pytest.approx(100)
    assert pace.now == pytest.approx(6000, abs=40)
    assert json.loads((target / "concepts.json").read_text()) == len(WORLDS["mini"]().concepts)
    report = (tmp_path / "report" / "training.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in report for name in PARTS)


def test_a_killed_run_goes_on_with_the_same_settings(calls: Calls, tmp_path: Path) -> None:
    calls.kill = "boxes"
    with pytest.raises(Killed):
        whole.train(tmp_path, "mini", minutes=100)
    before, calls.kill, calls.seen = list(calls.seen), None, []
    whole.train(tmp_path, "mini", minutes=100)
    assert [name for name, _ in calls.seen] == ["boxes", "everything"]
    assert calls.seen[0] == before[-1]
    calls.seen = []
    with pytest.raises(DataError, match="other settings"):
        (tmp_path / "everything" / "done").unlink()
        whole.train(tmp_path, "mini", minutes=50)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_parts_lead_from_one_to_the_next(gpu: bool, tmp_path: Path) -> None:
    tokenizer, vision, boxes, everything = whole.parts_of(tmp_path, "full", 3, 20.0, gpu)
    assert boxes.settings.init == str(tmp_path / "vision") and boxes.settings.tasks == "boxes"
    assert everything.settings.init == str(tmp_path / "boxes") and everything.settings.tasks == "all"
    assert boxes.settings.mask_tokenizer == str(tmp_path / "tokenizer" / "model")
    assert everything.settings.mask_tokenizer == str(tmp_path / "tokenizer" / "model")
    assert {part.settings.world for part in (tokenizer, vision, boxes, everything)} == {"full"}
    assert Path(tokenizer.settings.photo_masks).is_file()
    assert whole.parts_of(tmp_path, "mini", 0, 20.0, gpu)[0].settings.photo_masks is None
    parts = (tokenizer, vision, boxes, everything)
    assert sum(part.settings.schedule_minutes for part in parts) == pytest.approx(20)


def test_there_has_to_be_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="above 0"):
        whole.train(tmp_path, "mini", minutes=0)
