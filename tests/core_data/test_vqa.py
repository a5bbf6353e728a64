"""VQAv2's files, written by hand as they are published."""

import json
from pathlib import Path

import pytest
from PIL import Image

from himtok_core.data.problems import DataProblems
from himtok_core.data.vqa import ANNOTATIONS, read_vqa
from himtok_core.errors import DataError

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"


def annotation(number: int, answers: list[str], kind: str = "other") -> dict:
    given = [{"answer": text, "answer_confidence": "yes"} for text in answers]
    return {
        "question_id": number,
        "image_id": 42,
        "question_type": "what",
        "answer_type": kind,
        "answers": given,
        "multiple_choice_answer": answers[0] if answers else "",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg")
    questions = [
        {"image_id": 42, "question": "What is it?", "question_id": 42000},
        {"image_id": 42, "question": "How many are there?", "question_id": 42001},
    ]
    published = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014"}
    (tmp_path / QUESTIONS).write_text(json.dumps({**published, "questions": questions}))
    annotations = [annotation(42000, ["cat"] * 7 + ["kitten"] * 3), annotation(42001, ["2"] * 10, "number")]
    (tmp_path / ANNOTATIONS).write_text(json.dumps({"annotations": annotations}))
    return tmp_path


def test_as_published(folder: Path) -> None:
    problems = DataProblems()
    first, second = read_vqa(folder / QUESTIONS, None, None, problems)
    assert (first.id, first.text, first.kind) == ("42000", "What is it?", "other")
    assert first.answers == ("cat",) * 7 + ("kitten",) * 3
    assert first.picture == folder / "val2014" / "COCO_val2014_000000000042.jpg"
    assert (second.id, second.kind) == ("42001", "number")
    assert second.where == f"{QUESTIONS}: question 42001"
    assert len(problems) == 0


def test_as_json_lines(folder: Path) -> None:
    line = {
        "image": "data/vqav2/val2014/COCO_val2014_000000000042.jpg",
        "question": "What is it?",
        "question_id": 42000,
        "answer": "cat",
    }
    (folder / "vqav2_val.jsonl").write_text(json.dumps(line) + "\n")
    (found,) = read_vqa(folder / "vqav2_val.jsonl", None, None, DataProblems())
    assert (found.id, found.where) == ("42000", "vqav2_val.jsonl:1")
    assert found.answers[0] == "cat"
    assert found.picture.parent == folder / "val2014"


def test_what_cannot_be_used_is_named(folder: Path) -> None:
    questions = [
        {"image_id": 42, "question": "Answers are missing", "question_id": 1},
        {"image_id": 43, "question": "The picture is missing", "question_id": 42000},
        {"image_id": 42, "question": "", "question_id": 42000},
        {"question": "No picture", "question_id": 42000},
        "no entry",
        {"image_id": 42, "question": "Right", "question_id": 42000},
    ]
    (folder / QUESTIONS).write_text(json.dumps({"questions": questions}))
    problems = DataProblems()
    assert [item.text for item in read_vqa(folder / QUESTIONS, None, None, problems)] == ["Right"]
    wanted = ["question 1 has no answers", "000000000043", "needs", "entry 4", "entry 5"]
    assert len(problems) == len(wanted)
    for line, what in zip(problems.lines, wanted):
        assert what in line
    with pytest.raises(DataError, match="question 1"):
        list(read_vqa(folder / QUESTIONS, None, None, DataProblems(fatal=True)))


def test_answers_that_are_no_answers_count_as_missing(folder: Path) -> None:
    damaged = [annotation(42000, []), {**annotation(42001, ["2"]), "answers": ["2"]}]
    (folder / ANNOTATIONS).write_text(json.dumps({"annotations": damaged}))
    problems = DataProblems()
    assert list(read_vqa(folder / QUESTIONS, None, None, problems)) == []
    assert len(problems) == 2


def test_another_layout(folder: Path) -> None:
    with pytest.raises(DataError, match='"questions"'):
        list(read_vqa(folder / ANNOTATIONS, folder / ANNOTATIONS, None, DataProblems()))
    with pytest.raises(DataError, match='"annotations"'):
        list(read_vqa(folder / QUESTIONS, folder / QUESTIONS, None, DataProblems()))
    with pytest.raises(DataError, match="nothing.json"):
        list(read_vqa(folder / QUESTIONS, folder / "nothing.json", None, DataProblems()))
