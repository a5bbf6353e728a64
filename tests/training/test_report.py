"""The report of training runs: a table and curves from nothing but their logs."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from himtok_core import cli
from himtok_core.training.run_folder import RunFolder


def a_run(folder: Path, steps: int) -> Path:
    run = RunFolder(folder, {"lr": 0.001, "seed": 4})
    for step in range(25, steps + 1, 25):
        run.log(step=step, loss=100 / step)
        if step % 50 == 0:
            run.log(step=step, samples=8 * step, iou=step / 1000, box_iou=0.5, codes=1000)
    return folder


def test_the_last_scores_and_every_curve_are_in_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = [a_run(tmp_path / "vision", 100), a_run(tmp_path / "<boxes>", 200)]
    out = tmp_path / "report"
    assert cli.main(["train", "report", *map(str, runs), "--out", str(out)]) == 0
    text = (out / "training.md").read_text(encoding="utf-8")
    scores = r"iou 0\.100, box_iou 0\.500, codes 1000\.000"
    assert re.search(rf"\| vision \| 100 \| 800 \| 0\.0 \| {scores} \|", text)
    assert "| <boxes> | 200 | 1600 |" in text and "`vision`: lr 0.001, seed 4" in text and "PyTorch" in text
    picture = ElementTree.fromstring((out / "curves.svg").read_text(encoding="utf-8"))
    drawn = [e.attrib["points"].split() for e in picture.iter() if e.tag.endswith("polyline")]
    assert [len(line) for line in drawn] == [4, 2, 2, 8, 4, 4], "a loss and two shares of each run"
    heights = [float(point.split(",")[1]) for point in drawn[1]]
    assert heights[0] > heights[1], "the scores rise"
    titles = {e.text for e in picture.iter() if e.tag.endswith("text")}
    assert {"<boxes>: loss", "vision: held-out scores", "box_iou", "step 200"} <= titles


def test_a_folder_without_scores_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a_run(tmp_path / "young", 25)
    assert cli.main(["train", "report", str(tmp_path / "young"), "--out", str(tmp_path / "report")]) == 2
    assert "young holds no run that has been scored" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
