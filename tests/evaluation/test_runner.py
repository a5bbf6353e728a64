"""Running a benchmark with himtok-mini: rows, resuming, several processes, bad data, the page."""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from himtok_core import cli
from himtok_core.errors import DataError
from himtok_core.evaluation import runner
from himtok_core.evaluation.referring import ReferringSegmentation
from himtok_core.evaluation.rows import RowWriter, check_settings, merge_rows, read_rows, to_json
from himtok_core.evaluation.task import Sample
from himtok_core.reply import Reply
from tests.evaluation.datasets import refs, write_json, write_masks, write_refcoco

ROOT = Path(__file__).parents[2]
MINI = str(ROOT / "assets" / "himtok-mini")
IDS = ["1000", "1001", "1002", "1003"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refcoco")
    write_refcoco(folder)
    return folder


def res(data: Path, out: Path, *flags: str) -> list[str]:
    return [
        "evaluate", "res", "--data", str(data / "refs(unc).p"), "--pictures", str(data / "pictures"),
        "--split", "val", "--model", MINI, "--device", "cpu", "--out", str(out), *flags,
    ]  # fmt: skip


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def results_of(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert cli.main(res(data, out, "--batch", "2")) == 0
    return out


def test_results_say_what_was_measured_and_how(whole: Path, data: Path) -> None:
    result = results_of(whole)
    assert result["task"] == "res" and result["protocol"] == "field"
    assert result["samples"] == result["scored"] == result["asked_now"] == 4 and result["problems"] == []
    assert 0 < result["scores"]["cIoU"] <= 1 and 0 < result["scores"]["gIoU"] <= 1
    assert result["scores"]["small"] == {"cIoU": None, "gIoU": None, "count": 0}
    assert result["model"]["name"] == MINI
    assert re.fullmatch("sha256:[0-9a-f]{16}", result["model"]["revision"])
    assert result["settings"]["data"] == str(data / "refs(unc).p") and result["settings"]["split"] == "val"
    assert result["samples_per_second"] > 0 and set(result["versions"]) >= {"torch", "transformers"}
    rows = rows_of(whole)
    assert [row["id"] for row in rows] == IDS
    assert rows[0]["prompt"] == "Segment <ref>red square</ref>."
    assert rows[0]["masks"][0]["size"] == [64, 96] and "<|mt_start|>" in rows[0]["reply"]
    assert sum(row["intersection"] for row in rows) / sum(row["union"] for row in rows) == pytest.approx(
        result["scores"]["cIoU"]
    )


def test_another_batch_size_changes_nothing(whole: Path, data: Path, tmp_path: Path) -> None:
    assert cli.main(res(data, tmp_path, "--batch", "3")) == 0
    # Up to rounding, which may move a pixel on an outline.
    for ours, theirs in zip(rows_of(tmp_path), rows_of(whole), strict=True):
        assert ours["id"] == theirs["id"] and ours["score"] == pytest.approx(theirs["score"], abs=0.01)


class KilledTask(ReferringSegmentation):
    """Dies in its second batch."""

    batches = 0

    def answer(
        self, chat: object, pictures: Sequence, samples: Sequence[Sample], options: argparse.Namespace
    ) -> list[Reply]:
        self.batches += 1
        if self.batches == 2:
            raise KeyboardInterrupt
        return super().answer(chat, pictures, samples, options)


def test_a_killed_run_goes_on(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("himtok_core.evaluation.referring.ReferringSegmentation", KilledTask)
        with pytest.raises(KeyboardInterrupt):
            cli.main(res(data, tmp_path, "--batch", "2"))
    assert not (tmp_path / "results.json").exists()
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "1002", "score": 0.')  # cut off in the middle of a line
    assert cli.main(res(data, tmp_path, "--batch", "2")) == 0
    again = results_of(tmp_path)
    assert again["asked_now"] == 2 and again["scores"] == results_of(whole)["scores"]
    assert rows_of(tmp_path) == rows_of(whole)
    # Once more asks nothing, with the same result.
    assert cli.main(res(data, tmp_path)) == 0
    assert results_of(tmp_path)["asked_now"] == 0
    assert results_of(tmp_path)["scores"] == results_of(whole)["scores"]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["task"] == "res" and last["scored"] == 4 and last["problems"] == 0


def test_a_limited_run_can_be_widened(whole: Path, data: Path, tmp_path: Path) -> None:
    assert cli.main(res(data, tmp_path, "--limit", "1")) == 0
    assert results_of(tmp_path)["samples"] == 1
    assert cli.main(res(data, tmp_path)) == 0
    assert results_of(tmp_path)["asked_now"] == 3 and rows_of(tmp_path) == rows_of(whole)


def test_other_settings_need_another_folder(
    whole: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    before = (whole / "rows.jsonl").read_bytes()
    assert cli.main(res(data, whole, "--mask-tokens", "4")) == 2
    said = capsys.readouterr().err
    assert "mask_tokens was None, now 4" in said and "Use another --out" in said
    assert (whole / "rows.jsonl").read_bytes() == before


def test_saved_rows_are_scored_again_without_a_model(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(runner, "load")
    assert cli.main(res(data, tmp_path, "--predictions", str(whole / "rows.jsonl"))) == 0
    assert results_of(tmp_path)["scores"] == results_of(whole)["scores"]
    assert [row["masks"] for row in rows_of(tmp_path)] == [row["masks"] for row in rows_of(whole)]
    assert results_of(tmp_path)["model"] == {"name": str(whole / "rows.jsonl"), "revision": None}


def test_bad_data_is_named_and_left_out_or_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    entries = refs()
    entries[0]["sentences"][0]["sent"] = "<box>square</box>"
    entries[0]["sentences"][1]["sent"] = " "
    write_refcoco(tmp_path, entries)
    (tmp_path / "pictures" / "2.png").unlink()
    assert cli.main(res(tmp_path, tmp_path / "out")) == 0
    result = results_of(tmp_path / "out")
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["1002"]
    assert [line.split(": ")[1] for line in result["problems"]] == [
        "ref 100, expression 2", "ref 100, sentence 1000", "ref 102, sentence 1003",
    ]  # fmt: skip
    assert "2.png" in result["problems"][2] and result["scored"] == 1
    said = capsys.readouterr().err
    assert "left out: refs(unc).p: ref 102, sentence 1003: There is no picture file" in said
    assert cli.main(res(tmp_path, tmp_path / "strict", "--bad-data", "fail")) == 2
    assert "error: refs(unc).p: ref 100, expression 2" in capsys.readouterr().err
    assert not (tmp_path / "strict" / "results.json").exists()


def test_a_picture_of_another_size_is_not_scored(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    instances = json.loads((data / "instances.json").read_text(encoding="utf-8"))
    instances["images"][0]["width"] = 100
    write_refcoco(tmp_path)
    write_json(tmp_path / "instances.json", instances)
    assert cli.main(res(tmp_path, tmp_path / "out")) == 0
    result = results_of(tmp_path / "out")
    assert [row["id"] for row in rows_of(tmp_path / "out")] == ["1003"] and len(result["problems"]) == 3
    assert "100 x 64 pixels, the picture has 96 x 64" in result["problems"][0]
    capsys.readouterr()
    # Without a single score there is no result.
    assert cli.main(res(tmp_path, tmp_path / "none", "--limit", "1")) == 2
    said = capsys.readouterr().err
    assert "error: None of 1 samples could be scored. The first problem: refs(unc).p: ref 100" in said
    assert not (tmp_path / "none" / "results.json").exists()


def test_no_data_is_an_error(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(res(data, tmp_path, "--split", "test")) == 2
    assert cli.main(res(tmp_path / "nowhere", tmp_path)) == 2
    assert cli.main(res(data, tmp_path, "--mask-tokens", "33")) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "has no split 'test'" in errors[0] and "cannot be read" in errors[1]
    assert "1 to 32 tokens, not 33" in errors[2]


def test_the_page_needs_nothing_else_and_shows_the_cases(whole: Path) -> None:
    text = (whole / "index.html").read_text(encoding="utf-8")
    assert text.count('src="data:image/jpeg;base64,') == 4
    assert not re.search(r'(src|href)="(?!data:)', text) and "<script" not in text
    assert "Segment &lt;ref&gt;red square&lt;/ref&gt;." in text and "<ref>" not in text
    assert "⟨mask⟩" in text and "mt_start" not in text


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    """What `accelerate launch` starts on several GPUs, here on processors (gloo)."""
    masks = write_masks(tmp_path / "masks")
    for name in "abc":
        (masks / f"{name}.png").write_bytes((masks / "circle.png").read_bytes())
    (masks / "broken.png").write_bytes(b"no picture")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    task = ["evaluate", "tokenizer", "--data", str(masks), "--model", MINI, "--batch", "1", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [*launch, "-m", "himtok_core", *task, "--out", str(tmp_path / "two")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert len(finished.stdout.splitlines()) == 1
    result = results_of(tmp_path / "two")
    assert result["processes"] == 2 and result["asked_now"] == 6 and result["scored"] == 5
    assert len(result["problems"]) == 1 and "broken.png" in result["problems"][0]
    assert [path.name for path in (tmp_path / "two").glob("rows*")] == ["rows.jsonl"]
    assert cli.main([*task, "--out", str(tmp_path / "one")]) == 0
    assert rows_of(tmp_path / "two") == rows_of(tmp_path / "one")


def test_rows_of_several_processes_come_together(tmp_path: Path) -> None:
    RowWriter(tmp_path, 0).append([{"id": "b"}, {"id": "old"}])
    RowWriter(tmp_path, 1).append([{"id": "a"}])
    with (tmp_path / "rows.2.jsonl").open("w") as file:
        file.write('{"id": "c"}\n{"id": "d"')
    assert set(read_rows(tmp_path)) == {"a", "b", "c", "old"}
    assert merge_rows(tmp_path, ["a", "b", "c", "d"]) == [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert [row["id"] for row in rows_of(tmp_path)] == ["a", "b", "c", "old"]


@pytest.mark.parametrize("line", ["{", "[1]", "{}", "3"])
def test_a_damaged_row_in_the_middle_is_not_passed_over(line: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"id": "a"}}\n{line}\n{{"id": "b"}}\n')
    with pytest.raises(DataError, match="rows.jsonl, line 2"):
        read_rows(tmp_path)


def test_settings_may_change_while_there_are_no_rows(tmp_path: Path) -> None:
    check_settings(tmp_path, {"a": 1, "path": Path("x")})
    check_settings(tmp_path, {"a": 2})
    RowWriter(tmp_path, 0).append([{"id": "a"}])
    check_settings(tmp_path, {"a": 2})
    with pytest.raises(DataError, match="b was None, now 3"):
        check_settings(tmp_path, {"a": 2, "b": 3})


def test_json_has_no_nan() -> None:
    assert to_json({"a": float("nan"), 3: [float("inf"), 1.5]}) == '{"a": null, "3": [null, 1.5]}'


@pytest.mark.parametrize("protocol", ["field", "reference"])
def test_masks_can_be_refined_before_they_are_scored(data: Path, tmp_path: Path, protocol: str) -> None:
    flags = ["--limit", "2", "--protocol", protocol]
    assert cli.main(res(data, tmp_path / "plain", *flags)) == 0
    sam = str(ROOT / "assets" / "sam-mini")
    assert cli.main(res(data, tmp_path / "refined", *flags, "--refine", sam)) == 0
    plain, refined = rows_of(tmp_path / "plain"), rows_of(tmp_path / "refined")
    assert [row["reply"] for row in plain] == [row["reply"] for row in refined]
    assert [row["masks"] for row in plain] != [row["masks"] for row in refined]
    assert [row["score"] for row in plain] != [row["score"] for row in refined]
    assert results_of(tmp_path / "refined")["settings"]["refine"] == sam


def test_saved_masks_are_not_refined(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(res(data, tmp_path, "--predictions", "x.json", "--refine", "sam")) == 2
    assert "leave out --refine" in capsys.readouterr().err
