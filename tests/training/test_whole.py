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

SECONDS = {"tokenizer": 1.0, "vision": 2.0, "boxes": 4.0, "everything": 5.0}  # a step takes


class Calls:
    """Stands in for every recipe: keeps a log as they do, on a clock of its own."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.seen, self.kill = pace, [], None

    def recipe(self, name: str) -> object:
        def train(settings: object, folder: Path, minutes: float | None) -> None:
            self.seen.append((name, folder.name, settings.steps, minutes))
            run = RunFolder(folder, asdict(settings), minutes)
            for step in range(1, settings.steps + 1):
                self.pace.now += SECONDS[name]
                if step % 25 == 0:
                    run.log(step=step, loss=1.0)
                if folder.name != "trial" and (name, step) == self.kill:
                    raise Killed
            self.pace.now += 30  # scoring
            run.log(step=settings.steps, samples=settings.steps)
            (folder / "model").mkdir(exist_ok=True)

        return train


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, pace: Pace) -> Calls:
    calls, parts_of = Calls(pace), whole.parts_of

    def recorded(folder: Path, world: str, seed: int, gpu: bool) -> list[whole.Part]:
        return [replace(part, train=calls.recipe(part.name)) for part in parts_of(folder, world, seed, gpu)]

    def publish(run: Path, target: Path, world: World) -> None:
        assert (run / "model").is_dir()
        target.mkdir()
        (target / "concepts.json").write_text(json.dumps(len(world.concepts)))

    monkeypatch.setattr(whole, "parts_of", recorded)
    monkeypatch.setattr(whole, "publish", publish)
    return calls


def test_every_recipe_gets_its_share_of_the_time(calls: Calls, tmp_path: Path) -> None:
    target = whole.train(tmp_path, "mini", minutes=100)
    assert [(name, folder) for name, folder, _, _ in calls.seen] == [
        (name, folder) for name in SECONDS for folder in ("trial", name)
    ]
    for name, folder, steps, minutes in calls.seen:
        if folder != "trial":
            assert steps == round(whole.SPARE * minutes * 60 / SECONDS[name])
    assert sum(minutes for _, _, _, minutes in calls.seen if minutes) == pytest.approx(100)
    assert json.loads((target / "concepts.json").read_text()) == len(WORLDS["mini"]().concepts)
    assert not (tmp_path / "trial").exists()
    report = (tmp_path / "report" / "training.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in report for name in SECONDS)


def test_a_killed_run_goes_on_with_the_same_settings(calls: Calls, tmp_path: Path) -> None:
    calls.kill = ("boxes", 100)
    with pytest.raises(Killed):
        whole.train(tmp_path, "mini", minutes=100)
    before, calls.kill, calls.seen = list(calls.seen), None, []
    whole.train(tmp_path, "mini", minutes=100)
    assert [folder for _, folder, _, _ in calls.seen] == ["boxes", "trial", "everything"]
    assert calls.seen[0] == before[-1]


def test_the_parts_lead_from_one_to_the_next(tmp_path: Path) -> None:
    tokenizer, vision, boxes, everything = whole.parts_of(tmp_path, "full", 3, gpu=True)
    assert boxes.settings.init == str(tmp_path / "vision") and boxes.settings.tasks == "boxes"
    assert everything.settings.init == str(tmp_path / "boxes") and everything.settings.tasks == "all"
    assert everything.settings.mask_tokenizer == str(tmp_path / "tokenizer" / "model")
    assert {part.settings.world for part in (tokenizer, vision, boxes, everything)} == {"full"}
    assert Path(tokenizer.settings.photo_masks).is_file()
    assert whole.parts_of(tmp_path, "mini", 0, gpu=False)[0].settings.photo_masks is None


def test_there_has_to_be_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="above 0"):
        whole.train(tmp_path, "mini", minutes=0)
