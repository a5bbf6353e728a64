"""map, pope, mme and vqav2: from files as published to scores, by hand and with the shipped model."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from himtok_core import geometry
from himtok_core.chat import load
from himtok_core.data.problems import DataProblems
from himtok_core.data.scenes import HELD_OUT_SEED, World, make_scene
from himtok_core.errors import DataError
from himtok_core.evaluation import TASKS, _task, main, metrics
from himtok_core.evaluation.task import FIELD, PROTOCOLS, REFERENCE, Sample, Task
from himtok_core.markup import mask_run
from himtok_core.reply import Reply

MINI = Path(__file__).parents[2] / "assets" / "himtok-mini"
OPTIONS = "A. red apple\nB. left mask\nC. dog\nD. vitamin C"
SIZE = (120, 90)


def samples(task: Task, data: Path, *flags: str) -> list[Sample]:
    parser = argparse.ArgumentParser()
    task.add_arguments(parser)
    options = parser.parse_args(list(flags))
    options.data, options.protocol = data, FIELD
    problems = DataProblems(fatal=True)
    return list(task.samples(options, problems))


def rows(task: Task, asked: list[Sample], said: list[str], protocol: str = FIELD) -> list[dict]:
    return [
        task.row(sample, Reply(text, (), SIZE), protocol) for sample, text in zip(asked, said, strict=True)
    ]


def drawn(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_scene(HELD_OUT_SEED + number, World(), SIZE).picture.save(path)


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    for split, labels in (("random", "yes no"), ("adversarial", "no no")):
        lines = []
        for number, label in enumerate(labels.split(), 1):
            drawn(tmp_path / "val2014" / f"{number}.png", number)
            line = {"question_id": number, "image": f"{number}.png", "text": "Is there a key?"}
            lines.append(json.dumps({**line, "label": label}))
        (tmp_path / f"coco_pope_{split}.json").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def mme(tmp_path: Path) -> Path:
    for task in ("existence", "OCR"):
        for number in range(2):
            drawn(tmp_path / task / f"{number}.png", number)
            lines = [f"{ask} Please answer yes or no." for ask in ("Is there a key?", "Is there a bus?")]
            (tmp_path / task / f"{number}.txt").write_text(f"{lines[0]}\tYes\n{lines[1]}\tNo\n")
    return tmp_path


@pytest.fixture
def vqav2(tmp_path: Path) -> Path:
    drawn(tmp_path / "val2014" / "COCO_val2014_000000000001.jpg")
    asked = [(1, "How many keys are there?", "number", ["2"] * 9 + ["two."])]
    asked += [(2, "What is it?", "other", ["The key"] * 3 + ["a bus"] * 7)]
    questions = [{"question_id": n, "image_id": 1, "question": text} for n, text, _, _ in asked]
    truths = [
        {"question_id": n, "answer_type": kind, "answers": [{"answer": text} for text in texts]}
        for n, _, kind, texts in asked
    ]
    (tmp_path / "questions.json").write_text(json.dumps({"questions": questions, "data_subtype": "val2014"}))
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": truths}))
    return tmp_path / "questions.json"


@pytest.fixture
def perception(tmp_path: Path) -> Path:
    rle = geometry.mask_to_rle(np.tri(SIZE[1], SIZE[0], dtype=bool))
    drawn(tmp_path / "a.png")
    items = [
        {"image": "a.png", "question": f"Which is <mask>?\n{OPTIONS}", "answer": answer, "masks": [rle]}
        for answer in ("B", "C. dog", "A, D")
    ]
    (tmp_path / "mask_perception.json").write_text(json.dumps(items))
    return tmp_path / "mask_perception.json"


def test_pope_asks_briefly_and_scores_each_split(pope: Path) -> None:
    task = _task("pope")
    asked = samples(task, pope)
    assert [sample.id for sample in asked] == ["random:1", "random:2", "adversarial:1", "adversarial:2"]
    assert asked[0].prompt.text == "Is there a key?\nAnswer the question using a single word or phrase."
    found = rows(task, asked, ["Yes", "no", "A key", "No, there is not."])
    assert [row["score"] for row in found] == [1, 1, 0, 1]
    scores = task.summary(found, FIELD)
    assert scores["splits"]["random"]["f1"] == 1
    assert scores["splits"]["adversarial"]["accuracy"] == 0.5
    assert scores["splits"]["adversarial"]["yes_ratio"] == 0.5
    assert scores["f1"] == pytest.approx((1 + 0) / 2)
    assert scores["accuracy"] == pytest.approx(0.75)
    assert scores["unclear"] == 1
    always = task.summary(rows(task, asked, ["Yes"] * 4, REFERENCE), REFERENCE)
    assert always["splits"]["random"]["recall"] == 1


def test_mme_scores_questions_and_pictures(mme: Path) -> None:
    task = _task("mme")
    asked = samples(task, mme)
    assert len(asked) == 8
    wanted = "Is there a key? Please answer yes or no. Answer the question using a single word or phrase."
    assert asked[0].prompt.text == wanted
    found = rows(task, asked, ["Yes", "No", "yes.", "Yes", "True", "No", "maybe", "no"])
    scores = task.summary(found, FIELD)
    assert scores["sub_tasks"] == {"existence": 75 + 50, "OCR": 50}
    assert (scores["perception"], scores["other"]) == (175, 2)
    assert math.isnan(scores["cognition"])
    assert "commonsense_reasoning" in scores["missing"] and "OCR" not in scores["missing"]
    reference = rows(task, asked, ["Yes", "No", "yes.", "Yes", "True", "No", "maybe", "no"], REFERENCE)
    assert task.summary(reference, REFERENCE)["sub_tasks"]["OCR"] == 75 + 50


def test_vqav2_compares_normal_forms(vqav2: Path) -> None:
    task = _task("vqav2")
    asked = samples(task, vqav2)
    assert asked[1].prompt.text == "What is it? Answer the question using a single word or phrase."
    found = rows(task, asked, ["Two", "key."])
    assert [row["score"] for row in found] == [1, pytest.approx(0.9)]
    assert found[1]["truth"] == "bus"
    scores = task.summary(found, FIELD)
    assert scores["accuracy"] == pytest.approx(0.95)
    assert scores["kinds"] == {"number": 1, "other": pytest.approx(0.9)}


def test_map_wants_exactly_the_right_letters(perception: Path) -> None:
    task = _task("map")
    asked = samples(task, perception)
    assert [row["score"] for row in rows(task, asked, ["B", "the dog", "A and D"])] == [1, 1, 1]
    found = rows(task, asked, ["B. left mask", "It is a cat", "A"])
    assert [row["score"] for row in found] == [1, 0, 0]
    scores = task.summary(found, FIELD)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["single"] == {"count": 2, "accuracy": 0.5}
    assert scores["multiple"] == {"count": 1, "accuracy": 0}
    assert scores["without a letter"] == 1


def test_map_as_the_reference_implementation_reads_it(perception: Path) -> None:
    """It takes the article for A, and A for everything that it cannot read."""
    items = json.loads(perception.read_text())[:2]
    items[0]["answer"] = "A"
    perception.write_text(json.dumps(items))
    task = _task("map")
    asked = samples(task, perception)
    said = ["It is a cat", "nothing"]
    assert [row["score"] for row in rows(task, asked, said, REFERENCE)] == [1, 0]
    assert [row["score"] for row in rows(task, asked, said)] == [0, 0]
    assert [row["answer"] for row in rows(task, asked, said, REFERENCE)] == ["A", "A"]


def test_map_reproduces_the_reference_scores(perception: Path) -> None:
    goldens = json.loads((Path(__file__).parents[1] / "data" / "parity" / "mask_perception.json").read_text())
    plain = json.loads(perception.read_text())[0]
    perception.write_text(json.dumps([{**plain, "answer": gold} for _, gold, _ in goldens["rows"]]))
    task = _task("map")
    found = rows(task, samples(task, perception), [said for said, _, _ in goldens["rows"]], REFERENCE)
    assert [row["score"] for row in found] == [score for _, _, score in goldens["rows"]]


def test_a_mask_of_another_size_is_not_scored(perception: Path) -> None:
    task = _task("map")
    (first, *_) = samples(task, perception)
    with pytest.raises(DataError, match="120 x 90 pixels, the picture 90 x 120"):
        task.row(first, Reply("B", (), (90, 120)), FIELD)


def test_an_answer_that_is_no_letter_is_named(perception: Path) -> None:
    items = json.loads(perception.read_text())
    items[1]["answer"] = "the cat"
    perception.write_text(json.dumps(items))
    with pytest.raises(DataError, match=r"mask_perception.json: item 1: .*'the cat'"):
        samples(_task("map"), perception)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["map", "pope", "mme", "vqav2"])
def test_nothing_scored_is_no_score(name: str, protocol: str) -> None:
    scores = _task(name).summary([], protocol)
    numbers = [value for value in scores.values() if isinstance(value, float)]
    assert numbers and all(math.isnan(value) for value in numbers)


def run(name: str, data: Path, out: Path) -> tuple[dict, list[dict]]:
    flags = ["--model", str(MINI), "--device", "cpu", "--batch", "4", "--data", str(data), "--out", str(out)]
    assert main([name, *flags]) == 0
    lines = (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return results, [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["map", "pope", "mme", "vqav2"])
def test_the_shipped_model_from_files_to_scores(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue({"map": "perception"}.get(name, name))
    result, found = run(name, data, tmp_path / "out")
    assert result["task"] == name and name in TASKS
    assert result["scored"] == result["samples"] == len(found) > 0
    assert result["problems"] == []
    assert all(row["reply"] and row["prompt"] for row in found)
    mean = metrics.mean([row["score"] for row in found])
    expected = {
        "map": lambda scores: scores["accuracy"] == pytest.approx(mean),
        "pope": lambda scores: scores["accuracy"] == pytest.approx(mean),
        "mme": lambda scores: 0 <= scores["perception"] <= 400,
        "vqav2": lambda scores: scores["accuracy"] == pytest.approx(mean),
    }
    assert expected[name](result["scores"])
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_runs_that_stand_in_a_question_go_to_the_model_as_they_are(perception: Path) -> None:
    """As on the hub, where the file has no masks."""
    question = f"<image>\nWhich is {mask_run([1, 2, 3])}?\n{OPTIONS}"
    perception.write_text(json.dumps([{"image": "a.png", "question": question, "answer": "A"}]))
    task = _task("map")
    (only,) = samples(task, perception)
    prompt = task.prompt(only, load(MINI, device="cpu"))
    assert prompt.text == question.removeprefix("<image>\n")
    assert task.truth_masks(only) == []


def test_the_shipped_model_sees_the_mask_in_the_question(perception: Path) -> None:
    """The question goes to the model with a run of its own mask tokenizer in place of <mask>."""
    chat = load(MINI, device="cpu")
    task = _task("map")
    (first, *_) = samples(task, perception)
    text = task.prompt(first, chat).text
    assert text.count("<|mt_start|>") == text.count("<|mt_end|>") == 1 and "<mask>" not in text
    run_ = text.split("<|mt_start|>")[1].split("<|mt_end|>")[0]
    tokens = [int(token.strip("<|>mt_")) for token in run_.split("><")]
    drawn = chat.mask_tokenizer.decode(torch.tensor([tokens]))[0].numpy()
    truth = task.truth_masks(first)[0]
    assert geometry.mask_iou(geometry.mask_from_probability(drawn, SIZE), truth) > 0.7
