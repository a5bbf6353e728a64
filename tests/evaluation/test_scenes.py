"""Evaluation on held-out scenes: what a perfect, a silent and a real (untrained) model score."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from himtok_core import geometry, markup
from himtok_core.chat import Chat, load
from himtok_core.data import follow_ups
from himtok_core.data.questions import KINDS, MASK, Question, ask
from himtok_core.data.scenes import HELD_OUT_SEED, Scene, make_scene
from himtok_core.data.world import World
from himtok_core.evaluation import main, report, scenes
from himtok_core.evaluation.bars import Bar, bars
from himtok_core.evaluation.rows import RowWriter
from himtok_core.evaluation.scene_questions import (
    QUESTIONS_PER_SCENE,
    Asked,
    held_out_follow_ups,
    held_out_questions,
    unseen_drawings,
)
from himtok_core.evaluation.scene_tokenizer import TokenizerScores, round_trip, scene_masks
from himtok_core.mask_tokenizer import MaskTokenizerConfig
from himtok_core.refine import SamRefiner
from himtok_core.reply import Reply, ReplyObject

TOKENS = tuple(range(32))
ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def questions() -> list[tuple[Scene, Question]]:
    return [(item.scene, item.question) for item in held_out_questions(World(), 120)]


def truth(scene: Scene, question: Question) -> Reply:
    """The reply of a model that knows everything."""
    tokens = TOKENS[: question.mask_tokens]
    text = question.answer.replace(MASK, markup.mask_run(tokens))
    boxes = [span.boxes[0] for span in markup.parse(text) if isinstance(span, markup.BoxSpan)]
    box = geometry.scale_box_to_pixels(boxes[0], scene.size) if boxes else None
    if question.kind == "list_masks":
        names = [span.label for span in markup.parse(text) if isinstance(span, markup.PhraseSpan)]
        pairs = zip(names, question.answer_masks, strict=True)
        return Reply(text, tuple(ReplyObject(n, None, m, None, tokens) for n, m in pairs), scene.size)
    mask = question.answer_masks[0] if question.answer_masks else None
    if mask is None and box is None:
        return Reply(text, (), scene.size)
    item = ReplyObject("", box, mask, None, tokens if mask is not None else ())
    return Reply(text, (item,), scene.size)


def score_all(asked: list[tuple[Scene, Question]], answer) -> dict[str, scenes.KindScores]:
    return scenes.summarise(
        [scenes.score(Asked(scene, question), answer(scene, question)) for scene, question in asked]
    )


def test_questions_cover_all_kinds_on_held_out_scenes(questions: list[tuple[Scene, Question]]) -> None:
    counts = Counter(question.kind for _, question in questions)
    assert set(counts) == set(KINDS)
    assert counts["mask_perception"] == max(counts.values()) and 110 <= len(questions) <= 130
    assert all(scene.seed >= HELD_OUT_SEED for scene, _ in questions)
    assert max(Counter(scene.seed for scene, _ in questions).values()) <= QUESTIONS_PER_SCENE


def test_questions_repeat_and_other_seeds_ask_others(questions: list[tuple[Scene, Question]]) -> None:
    prompts = [question.prompt for _, question in questions]
    assert [item.question.prompt for item in held_out_questions(World(), 120)] == prompts
    later = held_out_questions(World(), 30, seed=5000)
    assert min(item.scene.seed for item in later) == HELD_OUT_SEED + 5000


def test_a_world_that_supports_no_relation_still_ends() -> None:
    lonely = World(max_objects=1)
    kinds = {item.question.kind for item in held_out_questions(lonely, 8)}
    assert "segment" in kinds and not kinds & {"segment_relation", "segment_all", "segment_ordinal"}


def test_follow_ups_come_with_the_turns_before() -> None:
    asked = list(held_out_follow_ups(World.full(), 2))
    assert Counter(item.question.kind for item in asked) == dict.fromkeys(follow_ups.KINDS, 2)
    for item in asked:
        assert 1 <= len(item.earlier) <= 5 and item.scene.seed >= HELD_OUT_SEED


def test_unseen_drawings_are_asked_for_by_name() -> None:
    asked = list(unseen_drawings(World.full(), 6))
    assert Counter(item.group for item in asked) == {"new style": 6, "new thing": 6}
    for item in asked:
        (target,) = item.question.target
        found = item.scene.objects[target]
        drawings = {"new style": "new_styles", "new thing": "new_concepts"}[item.group]
        concept = next(c for c in World.full(drawings).concepts if c.name == found.name)
        assert found.style in concept.styles
    assert not list(unseen_drawings(World.mini(), 2))


def test_a_list_of_masks_is_compared_mask_by_mask() -> None:
    world = World.full()
    scene = next(s for seed in range(20) if len((s := make_scene(seed, world)).objects) == 3)
    question = ask(scene, "list_masks", np.random.default_rng(0), world)
    names = [scene.objects[i].name for i in question.target]
    items = [
        ReplyObject(name, None, mask, None, TOKENS)
        for name, mask in zip(names, question.answer_masks, strict=True)
    ]
    text = question.answer.replace(MASK, markup.mask_run(TOKENS))
    right = scenes.score(Asked(scene, question), Reply(text, tuple(reversed(items)), scene.size))
    assert right.score == 1.0 and right.correct is True and len(right.overlaps) == 3
    two = scenes.score(Asked(scene, question), Reply(text, tuple(items[:2]), scene.size))
    assert two.score == pytest.approx(2 / 3) and two.correct is False


def test_the_truth_scores_full_marks(questions: list[tuple[Scene, Question]]) -> None:
    for kind, result in score_all(questions, truth).items():
        for name in ("mean_iou", "ciou", "accuracy", "box_at_50", "box_at_75"):
            value = getattr(result, name)
            assert np.isnan(value) or value == 1.0, (kind, name)
        assert np.isnan(result.box_iou) or result.box_iou > 0.95, "boxes are rounded to thousandths"
        assert result.missing == 0.0
        assert not np.isnan([result.mean_iou, result.box_iou, result.accuracy]).all(), kind


def test_silence_scores_nothing(questions: list[tuple[Scene, Question]]) -> None:
    for kind, result in score_all(questions, lambda scene, question: Reply("", (), scene.size)).items():
        for name in ("mean_iou", "ciou", "accuracy", "box_iou", "box_at_50"):
            value = getattr(result, name)
            assert np.isnan(value) or value == 0.0, (kind, name)
        due = kind.startswith("segment") or kind in ("box", "where_is", "list_masks")
        assert result.missing == float(due), kind


def test_saying_that_nothing_is_there_is_right_for_absent_things_only(
    questions: list[tuple[Scene, Question]],
) -> None:
    def deny(scene: Scene, question: Question) -> Reply:
        return Reply("There is no unicorn in the picture.", (), scene.size)

    results = score_all(questions, deny)
    assert results["absent"].accuracy == 1.0
    assert results["segment"].missing == 1.0 and results["segment"].mean_iou == 0.0


def test_a_mask_of_something_absent_is_a_false_alarm(questions: list[tuple[Scene, Question]]) -> None:
    scene, question = next(pair for pair in questions if pair[1].kind == "absent")
    item = ReplyObject("", None, scene.objects[0].mask, None, TOKENS)
    assert scenes.score(Asked(scene, question), Reply(question.answer, (item,), scene.size)).correct is False


@pytest.mark.parametrize(
    ("kind", "expected", "said", "correct"),
    [
        ("count", "There are 2 lemons in the picture.", "There are 2 things.", True),
        ("count", "There are 2 lemons in the picture.", "There are 3 lemons in the picture.", False),
        ("count", "There is no lemon in the picture.", "There is no lemon in the picture.", True),
        ("count", "There is no lemon in the picture.", "There is 1 lemon in the picture.", False),
        ("colour_of", "The star is red.", "It is red", True),
        ("colour_of", "The star is red.", "The star is blue.", False),
        ("yes_no", "Yes. There is a cat in the picture.", "Yes. There is a dog in the picture.", True),
        ("yes_no", "Yes. There is a cat in the picture.", "No. There is no cat in the picture.", False),
        ("yes_no", "Yes. There is a cat in the picture.", "", False),
        ("describe", "The picture shows a cat and a dog.", "The picture shows a dog and a cat.", True),
        ("describe", "The picture shows a cat and a dog.", "The picture shows a cat.", False),
        ("what_is_at", "It is a cat.", "It is a cat. ", True),
        ("what_is_at", "It is a cat.", "It is a black cat.", False),
        ("mask_perception", "B", "B. red apple", True),
        ("mask_perception", "B", "A", False),
    ],
)
def test_words_are_compared_by_what_they_say(kind: str, expected: str, said: str, correct: bool) -> None:
    scene = Scene(HELD_OUT_SEED, Image.new("RGB", (8, 8)), ())
    outcome = scenes.score(Asked(scene, Question(kind, "?", expected)), Reply(said, (), (8, 8)))
    assert outcome.correct is correct and outcome.score == float(correct)


def test_a_wrong_number_of_tokens_is_wrong(questions: list[tuple[Scene, Question]]) -> None:
    scene, question = next(pair for pair in questions if pair[1].kind == "segment_with_length")
    right = truth(scene, question)
    wrong = ReplyObject(
        "", right.objects[0].box, right.objects[0].mask, None, TOKENS[: question.mask_tokens % 32 + 1]
    )
    assert scenes.score(Asked(scene, question), right).correct is True
    assert scenes.score(Asked(scene, question), Reply(right.text, (wrong,), scene.size)).correct is False


def test_the_world_of_a_model_is_what_its_list_names() -> None:
    listed = (
        {"name": "cat", "code": "1f431", "styles": ["noto"]},
        {"name": "blue circle"},
        {"name": "red star"},
    )
    world = scenes.world_of(listed)
    assert [(concept.name, concept.styles) for concept in world.concepts] == [("cat", ("noto",))]
    assert world.shapes == ("circle", "star") and world.colours == ("red", "blue")
    assert scenes.world_of(()) == World()


@dataclass
class Copier:
    """In place of a mask tokenizer: its tokens number the masks, 8 or more of them give the mask itself."""

    config: MaskTokenizerConfig

    def encode(self, masks: torch.Tensor) -> torch.Tensor:
        self.masks = masks
        return torch.arange(len(masks))[:, None].repeat(1, 32)

    def decode_prefixes(self, tokens: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        return torch.stack([self.masks * (length >= 8) for length in lengths], dim=1)


def test_round_trip_compares_at_the_size_of_the_picture() -> None:
    masks = scene_masks(World(), scenes=20)
    result = round_trip(Copier(MaskTokenizerConfig(mask_size=128)), masks)
    assert result.count > 30 and list(result.mean_iou) == [1, 2, 4, 8, 16, 32]
    assert result.mean_iou[4] == 0.0
    assert 0.95 < result.mean_iou[8] == result.mean_iou[32] < 1.0, "stretching to 128 pixels costs a little"
    assert 1 <= result.codes_used <= 32 and result.perplexity <= result.codes_used


def test_masks_of_a_prompt_become_runs(tiny_chat: Chat) -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:30] = True
    text = scenes.with_masks(f"{MASK} or {MASK}?", (mask, ~mask), tiny_chat.mask_tokenizer)
    spans = [span for span in markup.parse(text) if isinstance(span, markup.MaskSpan)]
    expected = [geometry.stretch_mask(m, tiny_chat.mask_tokenizer.config.mask_size) for m in (mask, ~mask)]
    tokens = tiny_chat.mask_tokenizer.encode(torch.from_numpy(np.stack(expected)))
    assert [list(span.tokens) for span in spans] == tokens.tolist() and text.endswith("?")


def outcomes_of(asked: list[tuple[Scene, Question]], answer) -> list[scenes.Outcome]:
    return [scenes.score(Asked(scene, question), answer(scene, question)) for scene, question in asked]


def test_the_bars_are_met_by_the_truth_and_missed_by_silence(questions: list[tuple[Scene, Question]]) -> None:
    good = TokenizerScores(9, {1: 0.3, 2: 0.8, 8: 0.9, 32: 0.96}, 700, 1024, 450.0)
    found = bars(outcomes_of(questions, truth), good, good, [0.2, 0.3], 15e6)
    assert all(bar.met for bar in found if bar.met is not None)
    assert [bar.what for bar in found if bar.met is None] == ["things never drawn in that style: mean IoU"]
    poor = TokenizerScores(9, {1: 0.3, 2: 0.6, 8: 0.7, 32: 0.8}, 600, 1024, 350.0)
    silence = outcomes_of(questions, lambda scene, question: Reply("", (), scene.size))
    found = bars(silence, poor, poor, [2.0, 3.0], 31e6)
    met = [bar.what for bar in found if bar.met]
    assert met == ["present things: says that they are absent"], "silence denies nothing"
    deny = outcomes_of(questions, lambda scene, question: Reply("There is no cat.", (), scene.size))
    alarm = next(bar for bar in bars(deny, poor, poor, [], 0) if bar.what.startswith("present things"))
    assert alarm.value == 1.0 and alarm.met is False and alarm.n > 50


def test_the_table_names_the_bars_and_whether_they_are_met(questions: list[tuple[Scene, Question]]) -> None:
    tokenizer = TokenizerScores(9, {1: 0.3, 32: 0.9}, 700, 1024, 450.0)
    lines = [
        Bar("good", 5, 0.9, 0.8),
        Bar("bad", 5, 31.5, 30, at_most=True, unit="MB"),
        Bar("unknown", 0, float("nan"), 0.5),
    ]
    table = report.markdown(lines, score_all(questions, truth), tokenizer, tokenizer, tokenizer)
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}
    assert set(KINDS) < set(rows)
    assert rows["good"] == "| good | 5 | 0.900 | at least 0.800 | met |"
    assert rows["bad"] == "| bad | 5 | 31.5 MB | at most 30.0 MB | missed |"
    assert rows["unknown"].endswith("|  | at least 0.500 | not measured |")
    columns = {line.count("|") for line in table.splitlines() if line.startswith(("| question", "| segment"))}
    assert len(columns) == 1


def test_pictures_of_all_but_the_worst_are_forgotten(questions: list[tuple[Scene, Question]]) -> None:
    outcomes = outcomes_of(questions, truth)
    scores = [outcome.score for outcome in outcomes]
    before = scenes.summarise(outcomes)["segment"]
    scenes.forget_pictures(outcomes)
    assert [outcome.score for outcome in outcomes] == scores
    assert scenes.summarise(outcomes)["segment"] == before or np.isnan(before.box_iou)
    kept = [outcome for outcome in outcomes if outcome.reply.objects]
    assert 0 < len(kept) <= scenes.KEPT


def test_a_model_is_evaluated_from_the_command_line(
    tiny_chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny_chat.model.save_pretrained(tmp_path / "model")
    tiny_chat.processor.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["max_position_embeddings"] = 4096  # six turns of what this model babbles
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    out = tmp_path / "out"
    command = [
        "scenes",
        "--model",
        str(tmp_path / "model"),
        "--count",
        "1",
        "--batch",
        "4",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    kinds = (*KINDS, *follow_ups.KINDS)
    assert all(f"| {kind} | 1 |" in shown for kind in kinds) and "| missed |" in shown
    result = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert result["count"] == len(result["questions"]) == len(kinds)
    assert result["kinds"]["segment"]["box_iou"] is None and 0 <= result["kinds"]["segment"]["mean_iou"] < 0.5
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<h2>Worst</h2>" in page and "data:image/" in page
    assert page.count("<figure>") == 24
    chart = (out / "lengths.svg").read_text(encoding="utf-8")
    assert all(name in chart for name in ("answers to segment", "photographs", ">16</text>"))
    pictures = sorted((out / "worst").glob("*.png"))
    assert pictures and all(Image.open(path).width >= 480 for path in pictures)


def test_a_killed_run_goes_on_and_comes_to_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["scenes", "--model", str(ASSETS / "himtok-mini"), "--device", "cpu", "--count", "12", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0

    class Killed(BaseException):
        pass

    append, written = RowWriter.append, []

    def killed(self: RowWriter, rows: list[dict]) -> None:
        written.append(rows)
        if len(written) == 10:
            raise Killed
        append(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RowWriter, "append", killed)
        main([*command, str(tmp_path / "parts")])
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(RowWriter, "append", lambda self, rows: asked.extend(rows) or append(self, rows))
        assert main([*command, str(tmp_path / "parts")]) == 0
    whole, parts = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts"))
    assert len(asked) == whole["count"] - 9
    assert [row["score"] for row in parts["questions"]] == [row["score"] for row in whole["questions"]]
    assert parts["kinds"] == whole["kinds"]
    capsys.readouterr()
    assert main([*command[:-1], "--seed", "5", "--out", str(tmp_path / "parts")]) == 2
    assert "seed was 0, now 5" in capsys.readouterr().err


def test_refinement_raises_the_scores_of_the_shipped_model() -> None:
    chat = load(ASSETS / "himtok-mini", device="cpu")
    refiner = SamRefiner.from_pretrained(ASSETS / "sam-mini", device="cpu")
    asked = [item for item in held_out_questions(World.mini(), 140, 300) if item.question.kind == "segment"]
    before, after = (scenes.answer_all(chat, asked, 8, sam) for sam in (None, refiner))
    before, after = ([scenes.score(*replied) for replied in replies] for replies in (before, after))
    before, after = (scenes.summarise(outcomes)["segment"] for outcomes in (before, after))
    assert after.count == before.count == len(asked) >= 8
    assert after.mean_iou > before.mean_iou + 0.05


def test_bad_input_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["scenes", "--model", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: There is no folder")
    (tmp_path / "file").write_text("")
    assert main(["scenes", "--model", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["scenes", "--count", "none"])
    assert stopped.value.code == 2 and "whole number" in capsys.readouterr().err
