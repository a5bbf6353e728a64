"""Referring expressions in all three published layouts, and pickles that are more than data."""

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from himtok_core.data.problems import DataProblems
from himtok_core.data.refcoco import Reference, read_pickle, read_references
from himtok_core.errors import DataError
from tests.evaluation.datasets import (
    CIRCLE,
    SIZE,
    SQUARE,
    image_entry,
    refs,
    sentence,
    write_grefcoco,
    write_json,
    write_psalm,
    write_refcoco,
)

# As Python 2 wrote it, protocol 0: texts are bytes, one of them UTF-8.
PYTHON_2 = b"(lp0\n(dp1\nS'split'\np2\nS'val'\np3\nsS'sent'\np4\nS'caf\\xc3\\xa9'\np5\nsS'n'\nL3L\nsa."
# Calls os.system at load, had it its way.
PROGRAM = b"cos\nsystem\n(S'echo broken'\ntR."


def read(path: Path, **chosen: object) -> tuple[list[Reference], DataProblems]:
    problems = DataProblems()
    return list(read_references(path, problems, **chosen)), problems


def test_original_and_converted_files_say_the_same(tmp_path: Path) -> None:
    original, problems = read(write_refcoco(tmp_path / "original"), split="val")
    converted, more = read(write_psalm(tmp_path / "psalm"))
    assert not problems and not more
    assert [item.sentences for item in original] == [item.sentences for item in converted]
    assert [item.file_name for item in original] == ["1.png", "1.png", "2.png"]
    assert original[0].sentences == (("1000", "red square"), ("1001", "the square"))
    for ours, theirs, truth in zip(original, converted, (SQUARE, CIRCLE, CIRCLE), strict=True):
        assert ours.size == theirs.size == SIZE
        assert np.array_equal(ours.mask(), truth) and np.array_equal(theirs.mask(), truth)
    assert original[2].where == "refs(unc).p: ref 102"


def test_splits(tmp_path: Path) -> None:
    path = write_refcoco(tmp_path)
    assert [item.id for item in read(path)[0]] == ["100", "101", "102", "103"]
    assert [item.id for item in read(path, split="testA")[0]] == ["103"]
    with pytest.raises(DataError, match="no split 'test', only testA, val"):
        read(path, split="test")
    with pytest.raises(DataError, match="one split as a whole"):
        read(write_psalm(tmp_path), split="val")


def test_none_one_and_several_targets(tmp_path: Path) -> None:
    (one, both, nothing), problems = read(write_grefcoco(tmp_path), split="val")
    assert not problems
    assert np.array_equal(one.mask(), SQUARE)
    assert np.array_equal(both.mask(), SQUARE | CIRCLE)
    assert nothing.annotations == () and not nothing.mask().any() and nothing.mask().shape == SQUARE.shape


def test_what_does_not_fit_is_named_and_left_out(tmp_path: Path) -> None:
    entries = refs()
    entries[0]["sentences"][1]["sent"] = "  "
    entries[1]["ann_id"] = 77
    entries[2]["image_id"] = 9
    entries[3]["sentences"] = []
    found, problems = read(write_refcoco(tmp_path, entries))
    assert [item.sentences for item in found] == [(("1000", "red square"),)]
    assert problems.lines == [
        "refs(unc).p: ref 100, expression 2: the expression is empty",
        "refs(unc).p: ref 101: annotation [77] is not in instances.json",
        "refs(unc).p: ref 102: picture 9 is not in instances.json",
        "refs(unc).p: ref 103: there is no expression",
    ]
    with pytest.raises(DataError, match="ref 100, expression 2"):
        list(read_references(tmp_path / "refs(unc).p", DataProblems(fatal=True)))


def test_converted_items_that_do_not_fit(tmp_path: Path) -> None:
    good = {"image_info": image_entry(1), "instruction": [sentence(1, "x")], "anns": []}
    items = [good, good | {"anns": None}, good | {"image_info": {"file_name": "1.png"}}, good | {"anns": [3]}]
    found, problems = read(write_json(tmp_path / "items.json", items))
    assert len(found) == 1 and len(problems) == 3
    assert all(f"items.json: item {number}" in problems.lines[number - 1] for number in (1, 2, 3))


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in ({}, [], [3], [{"a": 1}]):
        with pytest.raises(DataError):
            read(write_json(tmp_path / "x.json", content))
    path = write_refcoco(tmp_path)
    (tmp_path / "instances.json").unlink()
    with pytest.raises(DataError, match="instances.json cannot be read"):
        read(path, split="val")


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(PYTHON_2)
    assert read_pickle(tmp_path / "refs.p") == [{"split": "val", "sent": "café", "n": 3}]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    data = [{"a": (1, 2.5, None, True), "b": [2**70, "é"], "c": {}}]
    (tmp_path / "refs.p").write_bytes(pickle.dumps(data, protocol))
    assert read_pickle(tmp_path / "refs.p") == data


@pytest.mark.parametrize(
    "content",
    [
        PROGRAM,
        pickle.dumps(Path("somewhere")),
        pickle.dumps(np.int64(3)),
        pickle.dumps(print),
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n.",  # INST
    ],
)
def test_a_pickle_that_names_anything_is_refused(content: bytes, tmp_path: Path) -> None:
    pickletools.dis(content, out=(tmp_path / "dis").open("w"))  # it is a well-formed pickle
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(DataError, match="could run as a program"):
        read_pickle(tmp_path / "refs.p")


@pytest.mark.parametrize("content", [b"", b"abc", PYTHON_2[:40], b"\x80\x02X\xff\xff\xff\x7fab.", b"P1\n."])
def test_a_damaged_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_pickle(tmp_path / "refs.p")
