"""A run's folder: settings that cannot change, a state that is never half written, time over restarts."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from himtok_core.errors import DataError
from himtok_core.training.run_folder import RunFolder, read_rows

from .conftest import Pace

CPU = torch.device("cpu")


def test_a_new_folder_has_its_settings_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a" / "b", {"lr": 0.1, "sizes": (1, 2)})
    assert json.loads((run.folder / "settings.json").read_text()) == {"lr": 0.1, "sizes": [1, 2]}
    assert run.load(CPU) is None and read_rows(run.folder) == []


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"lr": 0.1, "sizes": (1, 2)}).save({"step": 7, "weight": torch.ones(2)})
    state = RunFolder(tmp_path, {"lr": 0.1, "sizes": (1, 2)}).load(CPU)
    assert state["step"] == 7 and torch.equal(state["weight"], torch.ones(2))


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    RunFolder(tmp_path, {"lr": 0.1, "seed": 0, "old": 1})
    with pytest.raises(DataError, match=r"\(lr, new, old\)"):
        RunFolder(tmp_path, {"lr": 0.2, "seed": 0, "new": 2})
    RunFolder(tmp_path, {"lr": 0.1, "seed": 0, "old": 1})  # and the folder is as it was


def test_a_save_that_fails_leaves_the_last_state(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {})
    run.save({"step": 1})
    with pytest.raises((AttributeError, TypeError)):
        run.save({"step": 2, "cannot be saved": open(tmp_path / "settings.json")})
    assert run.load(CPU)["step"] == 1
    run.save({"step": 3})
    assert run.load(CPU)["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "state.pt"]


def test_a_kill_between_writing_and_naming_leaves_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path, {})
    run.save({"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.save({"step": 2})
    assert RunFolder(tmp_path, {}).load(CPU)["step"] == 1


def test_time_counts_over_restarts(tmp_path: Path, pace: Pace) -> None:
    run = RunFolder(tmp_path, {}, minutes=2)
    pace.now += 100
    run.save({})
    assert run.seconds == 100 and not run.out_of_time
    pace.now += 21
    assert run.out_of_time
    pace.now += 1000  # nobody trains
    again = RunFolder(tmp_path, {}, minutes=2)
    again.load(CPU)
    pace.now += 50
    assert again.seconds == 150 and not again.out_of_time, "the limit is of this process, the time of the run"
    pace.now += 10_000
    assert not RunFolder(tmp_path, {}).out_of_time


def test_what_is_logged_can_be_read(tmp_path: Path, pace: Pace, capsys: pytest.CaptureFixture) -> None:
    run = RunFolder(tmp_path, {})
    pace.now += 5
    run.log(step=50, loss=0.123456789)
    RunFolder(tmp_path, {}).log(step=100, best="yes")
    assert read_rows(run.folder) == [
        {"seconds": 5.0, "step": 50, "loss": 0.123456789},
        {"seconds": 0.0, "step": 100, "best": "yes"},
    ]
    assert "step 50  loss 0.1235" in capsys.readouterr().err


def test_progress_by_steps_and_by_the_clock(tmp_path: Path, pace: Pace) -> None:
    run = RunFolder(tmp_path / "steps", {"steps": 5000, "schedule_minutes": None})
    pace.now = 1e6
    assert (run.steps, run.progress(1250)) == (5000, 0.25)
    assert [done for done in range(1, 5001) if run.scores_after(done)] == list(range(500, 5001, 500))
    assert run.is_over(5000) and not run.is_over(4999)
    assert RunFolder(tmp_path / "few", {"steps": 300}).scores_after(250)

    run = RunFolder(tmp_path / "clock", {"steps": 7, "schedule_minutes": 10})
    assert run.steps > 10**9
    scored = []
    for minute in range(1, 11):
        pace.now += 60
        assert run.progress(minute) == pytest.approx(minute / 10)
        assert run.is_over(minute) == (minute == 10)
        scored += [minute] if run.scores_after(minute) else []
        if minute == 5:  # stopped here, it goes on with half of its time
            run.save({"step": minute})
            run = RunFolder(tmp_path / "clock", {"steps": 7, "schedule_minutes": 10})
            run.load(CPU)
    assert scored == [2, 4, 6, 8, 10]


def test_the_log_says_how_long_batches_were_waited_for(tmp_path: Path, pace: Pace) -> None:
    def slow() -> Iterator[int]:
        for number in range(4):
            pace.now += 3
            yield number

    run = RunFolder(tmp_path, {})
    for number in run.timed(slow()):
        pace.now += 1
        if number % 2:
            run.log(step=number)
    assert [row["waiting"] for row in read_rows(tmp_path)] == [0.75, 0.75]
    run.log(step=4)
    assert "waiting" not in read_rows(tmp_path)[-1]
