"""Training lines: what is read, and what is refused with file and line."""

import json
from pathlib import Path

import pytest

from himtok_core.data.jsonl import AnnotationFile, read_meta
from himtok_core.errors import DataError

ASKED = {"from": "human", "value": "<image>\nSegment <ref>road</ref>."}
SAID = {"from": "gpt", "value": "There."}


def lines(folder: Path, *rows: dict | str, **options: object) -> AnnotationFile:
    """A data set of these lines, with the pictures' folder beside it."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "lines.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return AnnotationFile("set", folder / "lines.jsonl", folder / "pictures", **options)


def test_a_line_of_the_reference(tmp_path: Path) -> None:
    data = lines(tmp_path, {"image": "a/b.jpg", "mask": "m.png", "conversations": [ASKED, SAID]})
    sample = data.sample(0)
    assert sample.turns == (("<image>\nSegment <ref>road</ref>.", "There."),)
    assert sample.pictures == (tmp_path / "pictures" / "a" / "b.jpg",)
    assert sample.masks == (tmp_path / "pictures" / "m.png",)
    assert sample.system is None


def test_lines_are_found_by_their_number_past_blank_ones_and_long_letters(tmp_path: Path) -> None:
    other = {"conversations": [{"from": "human", "value": "猫?"}, SAID]}
    data = lines(tmp_path, {"image": "a.jpg", "conversations": [ASKED, SAID]}, "", "  ", other, other)
    assert len(data) == 3
    assert data.sample(1).turns[0][0] == "猫?"
    assert data.sample(2) == data.sample(1)
    assert [data.where(index).rsplit(":")[-1] for index in range(3)] == ["1", "4", "5"]


def test_system_message_text_only_and_several_pictures(tmp_path: Path) -> None:
    two = {"from": "human", "value": "<image> or <image>?"}
    again = {"from": "human", "value": "Sure?"}
    data = lines(
        tmp_path,
        {"conversations": [{"from": "system", "value": "Be kind."}, again, SAID, again, SAID]},
        {"image": ["a.jpg", "b.jpg"], "mask": ["m.png", "n.png"], "conversations": [two, SAID]},
        {"image": "", "conversations": [again, SAID]},
    )
    assert data.sample(0).system == "Be kind." and len(data.sample(0).turns) == 2
    assert [path.name for path in data.sample(1).pictures] == ["a.jpg", "b.jpg"]
    assert [path.name for path in data.sample(1).masks] == ["m.png", "n.png"]
    assert data.sample(2).pictures == ()


def test_the_place_of_a_single_picture_may_be_left_out(tmp_path: Path) -> None:
    data = lines(tmp_path, {"image": "a.jpg", "conversations": [{"from": "human", "value": "What?"}, SAID]})
    assert data.sample(0).turns[0][0] == "<image>\nWhat?"


@pytest.mark.parametrize(
    "row, complaint",
    [
        ('{"image": ', "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ({"image": "a.jpg"}, "conversation is empty"),
        ({"conversations": []}, "conversation is empty"),
        ({"conversations": [{"value": "What?"}]}, "a turn must be"),
        ({"conversations": [ASKED]}, "must speak in turns"),
        ({"conversations": [SAID, ASKED]}, "must speak in turns"),
        ({"conversations": [{"from": "system", "value": "Hi."}]}, "must speak in turns"),
        ({"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\n "}, SAID]}, "turn 1"),
        ({"image": "a.jpg", "conversations": [ASKED, {"from": "gpt", "value": ""}]}, "turn 2"),
        (
            {"image": "a.jpg", "conversations": [{"from": "human", "value": "Segment <ref> </ref>."}, SAID]},
            "empty <ref></ref>",
        ),
        ({"conversations": [ASKED, SAID]}, "1 times <image>, but the sample has 0 pictures"),
        ({"image": ["a.jpg", "b.jpg"], "conversations": [ASKED, SAID]}, "has 2 pictures"),
        ({"image": "a.jpg", "conversations": [ASKED, {"from": "gpt", "value": "<image>"}]}, "turn 2"),
        ({"image": "a.jpg", "conversations": [ASKED, {"from": "gpt", "value": "An <image>."}]}, "an answer"),
        ({"image": 7, "conversations": [ASKED, SAID]}, '"image" must be a file name'),
        ({"image": "a.jpg", "mask": [None], "conversations": [ASKED, SAID]}, '"mask" must be a file name'),
        ({"video": "a.mp4", "conversations": [ASKED, SAID]}, "video"),
    ],
)
def test_bad_lines(tmp_path: Path, row: dict | str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        lines(tmp_path, row).sample(0)


def test_meta_file(tmp_path: Path) -> None:
    lines(tmp_path, {"conversations": [{"from": "human", "value": "Hi."}, SAID]})
    entry = {"root": "there", "annotation": str(tmp_path / "lines.jsonl")}
    more = {**entry, "repeat_time": 0.3, "data_augment": True, "max_dynamic_patch": 6}
    meta = {"plain": entry, "more": more}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    plain, more = read_meta(tmp_path / "meta.json")
    assert (plain.name, plain.root, plain.repeat, plain.augment) == ("plain", Path("there"), 1.0, False)
    assert (more.repeat, more.augment, more.max_tiles, len(more)) == (0.3, True, 6, 1)
    assert plain.max_tiles is None


@pytest.mark.parametrize(
    "meta, complaint",
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object of data sets"),
        ('{"a": {"root": "x"}}', '"root" and "annotation"'),
        ('{"a": {"root": "x", "annotation": "none.jsonl"}}', "none.jsonl cannot be read"),
        ('{"a": {"root": "x", "annotation": "none.jsonl", "repeat_time": 0}}', "repeat_time"),
        ('{"a": {"root": "x", "annotation": "none.jsonl", "max_dynamic_patch": 1.5}}', "max_dynamic_patch"),
    ],
)
def test_bad_meta_files(tmp_path: Path, meta: str, complaint: str) -> None:
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(DataError, match=complaint):
        read_meta(tmp_path / "meta.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_meta(tmp_path / "other.json")
    (tmp_path / "lines.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="has no lines"):
        AnnotationFile("set", tmp_path / "lines.jsonl", tmp_path)
