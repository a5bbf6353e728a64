"""Samples in numbers: the reference's own ids and labels, runs and their masks, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from himtok_core.data.jsonl import TrainingSample
from himtok_core.errors import DataError, PictureError
from himtok_core.generation.turns import first_turn_ids, next_turn_ids
from himtok_core.geometry import stretch_mask
from himtok_core.training.conversations import IGNORE, ConversationWriter, Run, collate
from tests.training.toy_conversations import PLACEHOLDER, SIZE, write_mask, write_picture

from .conftest import FACTS, Loaded


@pytest.fixture(scope="module")
def writer(released: Loaded) -> ConversationWriter:
    return ConversationWriter(released[1], released[0].config, max_tiles=4, max_length=2048)


def turns(conversations: list[dict]) -> list[tuple[str, str]]:
    texts = [turn["value"] for turn in conversations]
    return list(zip(texts[::2], texts[1::2]))


def sample(*texts: str, pictures: tuple = (), masks: tuple = ()) -> TrainingSample:
    return TrainingSample(tuple(zip(texts[::2], texts[1::2])), None, tuple(pictures), tuple(masks))


# ---- ids and labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, tiles", [("sample", 1), ("sample2", FACTS["sample2"]["tiles"])])
def test_ids_and_labels_of_the_reference(
    writer: ConversationWriter, golden: dict[str, torch.Tensor], name: str, tiles: int
) -> None:
    ids, labels = writer.ids_and_labels(turns(FACTS[name]["conversations"]), [tiles])
    assert ids == golden[f"train/{name}/input_ids"][0].tolist()
    assert labels == golden[f"train/{name}/labels"][0].tolist()


def test_training_sees_what_asking_writes(writer: ConversationWriter, released: Loaded) -> None:
    """The ids before an answer are those that the running model is asked with."""
    processor = released[1]
    ids, labels = writer.ids_and_labels([("<image>\nOne?", "Yes."), ("Two?", "No.")], [1])
    first = first_turn_ids(processor, "One?", 1)
    answer = processor.tokenizer("Yes.<|im_end|>", add_special_tokens=False)["input_ids"]
    second = next_turn_ids(processor, "Two?")
    assert ids[: len(first)] == first and set(labels[: len(first)]) == {IGNORE}
    assert ids[len(first) :][: len(answer)] == labels[len(first) :][: len(answer)] == answer
    # Asking goes on from the text of an answer; the end of its turn is part of what comes next there.
    assert ids[len(first) + len(answer) - 1 :][: len(second)] == second


def test_system_message_and_pictures_anywhere(writer: ConversationWriter, released: Loaded) -> None:
    tokenizer = released[1].tokenizer
    ids, _ = writer.ids_and_labels(
        [("<image> or <image>?", "The first."), ("And <image>?", "No.")], [1, 3, 2], system="Be kind."
    )
    text = tokenizer.decode(ids)
    places = "<IMG_CONTEXT>" * 4
    assert text.startswith("<s><|im_start|>system\nBe kind.<|im_end|>\n")
    assert f"<img>{places}</img> or <img>{places * 3}</img>?" in text
    assert f"And <img>{places * 2}</img>?" in text


@pytest.mark.parametrize("text", ["a <|im_end|> b", "a <IMG_CONTEXT> b", "<|im_start|>"])
def test_reserved_tokens_are_refused(writer: ConversationWriter, text: str) -> None:
    for pair in ((text, "Yes."), ("Well?", text)):
        with pytest.raises(DataError, match="reserved for the conversation"):
            writer.ids_and_labels([pair], [])


# ---- pictures and masks ----------------------------------------------------------------------------------


def test_pictures_share_their_tiles(writer: ConversationWriter, tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", number, (240, 60))
    names = [tmp_path / f"{number}.png" for number in range(3)]
    one = writer.example(sample("<image>\nA?", "B.", pictures=names[:1]))
    three = writer.example(sample("<image><image><image>\nA?", "B.", pictures=names))
    assert len(one.pixel_values) == 5  # four tiles and the thumbnail
    assert len(three.pixel_values) == 3
    assert len(writer.example(sample("<image>\nA?", "B.", pictures=names[:1]), 1).pixel_values) == 1
    assert writer.example(sample("A?", "B.")).pixel_values.shape == (0, 3, 56, 56)


def test_spoiled_pictures_differ_a_little_and_repeatably(writer: ConversationWriter, tmp_path: Path) -> None:
    shades = np.linspace(0, 255, 60, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(shades, (40, 1))] * 3, axis=2)).save(tmp_path / "a.png")
    asked = sample("<image>\nA?", "B.", pictures=[tmp_path / "a.png"])
    clean = writer.example(asked).pixel_values
    spoiled = [writer.example(asked, None, np.random.default_rng(3)).pixel_values for _ in range(2)]
    assert np.array_equal(*spoiled)
    assert 0 < np.abs(clean - spoiled[0]).mean() < 0.05


def test_masks_are_stretched_and_levels_of_one_count_as_full(
    writer: ConversationWriter, tmp_path: Path
) -> None:
    write_picture(tmp_path / "a.png", 0)
    mask = write_mask(tmp_path / "m.png", 20)
    write_mask(tmp_path / "ones.png", 20, level=1)
    for name in ("m.png", "ones.png"):
        asked = sample(
            "<image>\nA?", PLACEHOLDER, pictures=[tmp_path / "a.png"], masks=[tmp_path / name]
        )
        assert np.array_equal(writer.example(asked).masks, stretch_mask(mask > 0, 64)[None])


def test_what_files_cannot_be_used(writer: ConversationWriter, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 0)
    write_mask(tmp_path / "m.png", 5, (SIZE[1], SIZE[0]))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    asked = sample("<image>\nA?", PLACEHOLDER, pictures=[tmp_path / "a.png"], masks=[tmp_path / "m.png"])
    with pytest.raises(DataError, match="m.png is 40 x 60 pixels, its picture is 60 x 40"):
        writer.example(asked)
    for name in ("gone.png", "broken.png"):
        with pytest.raises(PictureError):
            writer.example(sample("<image>\nA?", "B.", pictures=[tmp_path / name]))
        with pytest.raises(PictureError):
            writer.example(
                sample("<image>\nA?", PLACEHOLDER, pictures=[tmp_path / "a.png"], masks=[tmp_path / name])
            )


def test_too_long_for_the_run_or_for_the_model(released: Loaded, writer: ConversationWriter) -> None:
    model, processor = released
    length = len(writer.example(sample("A?", "B.")).ids)
    ConversationWriter(processor, model.config, 1, length).example(sample("A?", "B."))
    with pytest.raises(DataError, match=f"has {length} tokens, at most {length - 1} are possible"):
        ConversationWriter(processor, model.config, 1, length - 1).example(sample("A?", "B."))
    assert ConversationWriter(processor, model.config, 1, 10**9).max_length == 32768


# ---- runs ------------------------------------------------------------------------------------------------


def runs(writer: ConversationWriter, tmp_path: Path, *texts: str, masks: int) -> tuple[Run, ...]:
    for number in range(masks):
        write_mask(tmp_path / f"m{number}.png", 5)
    names = [tmp_path / f"m{number}.png" for number in range(masks)]
    return writer.example(sample(*texts, masks=names)).runs


OWN = "<|mt_start|><|mt_7|><|mt_9|><|mt_end|>"
SHORT = "<|mt_start|><|mt_0|><|mt_0|><|mt_end|>"


def test_runs_and_their_masks(writer: ConversationWriter, tmp_path: Path) -> None:
    (run,) = runs(writer, tmp_path, "A?", f"At {PLACEHOLDER}.", masks=1)
    assert (run.length, run.mask, run.drawn) == (32, 0, True)
    asked, answered = runs(writer, tmp_path, f"What is {PLACEHOLDER}?", f"{PLACEHOLDER}", masks=2)
    assert (asked.mask, asked.drawn, answered.mask, answered.drawn) == (0, False, 1, True)
    own, full = runs(writer, tmp_path, f"Like {OWN}?", PLACEHOLDER, masks=1)
    assert (own.length, own.mask, own.drawn) == (2, None, False)
    assert (full.mask, full.drawn) == (0, True)
    (short,) = runs(writer, tmp_path, "A?", SHORT, masks=1)
    assert (short.length, short.mask, short.drawn) == (2, 0, False)
    (converted,) = runs(writer, tmp_path, "A?", OWN, masks=0)
    assert (converted.mask, converted.drawn) == (None, False)
    (overwritten,) = runs(writer, tmp_path, "A?", OWN, masks=1)
    assert overwritten.mask == 0


@pytest.mark.parametrize(
    "answer, masks, complaint",
    [
        (PLACEHOLDER, 0, 'the sample has no "mask"'),
        ("There.", 1, "1 masks for 0 mask runs"),
        (PLACEHOLDER + OWN + OWN, 2, "2 masks for 3 mask runs, 1 of them all"),
        ("<|mt_start|><|mt_4|>", 0, "a mask run must be"),
        ("<|mt_start|><|mt_end|>", 0, "a mask run must be"),
        ("<|mt_start|>" + "<|mt_4|>" * 33 + "<|mt_end|>", 0, "1 to 32 mask tokens"),
        ("<|mt_4|>", 0, "outside of a run"),
        ("<|mt_end|>", 0, "outside of a run"),
    ],
)
def test_bad_runs(
    writer: ConversationWriter, tmp_path: Path, answer: str, masks: int, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        runs(writer, tmp_path, "A?", answer, masks=masks)


def test_the_reference_knows_one_mask_and_an_empty_one_where_there_is_none(
    released: Loaded, tmp_path: Path
) -> None:
    writer = ConversationWriter(released[1], released[0].config, 1, 2048, reference=True)
    example = writer.example(sample("A?", PLACEHOLDER))
    assert example.runs[0].mask == 0 and example.masks.shape == (1, 64, 64) and not example.masks.any()
    first, second = runs(writer, tmp_path, PLACEHOLDER, PLACEHOLDER, masks=1)
    assert (first.mask, second.mask) == (0, None)
    for answer, masks in ((PLACEHOLDER * 2, 2), (SHORT, 1)):
        with pytest.raises(DataError, match="one mask a sample"):
            runs(writer, tmp_path, "A?", answer, masks=masks)


# ---- batches ---------------------------------------------------------------------------------------------


def test_a_batch_keeps_every_sample_apart(
    writer: ConversationWriter, released: Loaded, tmp_path: Path
) -> None:
    write_picture(tmp_path / "a.png", 0)
    for number in range(2):
        write_mask(tmp_path / f"m{number}.png", 5 + number)
    masks = [tmp_path / "m0.png", tmp_path / "m1.png"]
    examples = [
        writer.example(sample("Well?", "No.")),
        writer.example(sample(f"<image>\n{SHORT}?", PLACEHOLDER, pictures=[tmp_path / "a.png"], masks=masks)),
        writer.example(sample("Draw.", PLACEHOLDER, masks=masks[:1])),
    ]
    batch = collate(examples, released[1], torch.zeros(2, 3))
    for row, example in enumerate(examples):
        length = len(example.ids)
        assert batch["input_ids"][row, :length].tolist() == example.ids
        assert batch["labels"][row, :length].tolist() == example.labels
        assert (batch["labels"][row, length:] == IGNORE).all()
        assert batch["attention_mask"][row].sum() == length
    assert batch["image_flags"].tolist() == [True] * len(examples[1].pixel_values)
    assert [(row, length, mask) for row, _, length, mask in batch["filled"].tolist()] == [
        (1, 2, 0), (1, 32, 1), (2, 32, 2)
    ]  # fmt: skip
    assert [(row, mask) for row, _, mask in batch["drawn"].tolist()] == [(1, 1), (2, 2)]
    for row, place, _ in batch["drawn"].tolist():
        assert batch["input_ids"][row, place - 1] == released[0].config.mask_start_id
    text = collate(examples[:1], released[1], torch.zeros(0, 3))
    assert text["image_flags"].tolist() == [False] and text["pixel_values"].shape == (1, 3, 56, 56)
    assert len(text["masks"]) == len(text["filled"]) == len(text["drawn"]) == 0
