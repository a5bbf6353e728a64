"""Conversations as tensors: every place, label and mask token lies where the conversation has it."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

from himtok_core.data.questions import MASK, WEIGHTS, Question
from himtok_core.data.scenes import World
from himtok_core.lmm import HimtokProcessor
from himtok_core.markup import mask_run
from himtok_core.training.branches import IGNORE, Branch, QuestionWriter
from himtok_core.training.packing import DECISION_WEIGHT, Packed, pack
from himtok_core.training.scene_batches import ConversationBatches, DenseTargets, PatchBatches

from .conftest import beginnings


@dataclass
class Laid:
    """A batch before and after it is laid out. starts: where each conversation begins in its row."""

    branches: list[Branch]
    starts: list[int]
    targets: DenseTargets
    masks: int
    packed: Packed


@pytest.fixture(scope="module")
def writer(processor: HimtokProcessor) -> QuestionWriter:
    return QuestionWriter(processor)


@pytest.fixture(scope="module")
def laid(processor: HimtokProcessor, world: World, writer: QuestionWriter) -> Laid:
    patches = PatchBatches(processor, world, 4, seed=0, grid=8, mask_size=32)
    weights = {**WEIGHTS, "segment_with_length": 8.0, "mask_perception": 8.0, "list_masks": 4.0}
    asked = ConversationBatches(patches, 8, weights, next_turn=0.5).asked(0)
    _, targets = patches.of(asked.scenes)
    writer.forget_answers(asked.branches, np.random.default_rng(0))
    packed = pack(asked.branches, writer, targets.owner.numpy(), targets.boxes.numpy())
    starts = beginnings(asked.branches, len(writer.prefix_ids))
    return Laid(asked.branches, starts, targets, len(asked.masks), packed)


def conversation(scene: int, length: int, looks: list[tuple[int, int, tuple[int, ...]]]) -> Branch:
    """Nothing but words that nobody says."""
    return Branch(scene, [7] * length, [IGNORE] * length, [], [], looks, [])


def columns(table: torch.Tensor) -> list[tuple[int, ...]]:
    """The columns of a table, in order."""
    return sorted(zip(*table.tolist(), strict=True))


def said_at(packed: Packed) -> list[tuple[int, int]]:
    """(row, column) of each token that is said."""
    return [(row, column + 1) for row, column in zip(*packed.said.tolist(), strict=True)]


# ---- rows ------------------------------------------------------------------------------------------------


def test_a_row_is_the_picture_and_then_its_conversations(
    processor: HimtokProcessor, writer: QuestionWriter, laid: Laid
) -> None:
    packed, begin = laid.packed, len(writer.prefix_ids)
    free = torch.ones_like(packed.ids, dtype=torch.bool)
    free[:, :begin] = False
    for row in range(4):
        assert packed.ids[row, :begin].tolist() == writer.prefix_ids
        assert packed.positions[row, :begin].tolist() == list(range(begin))
        assert packed.owner[row, :begin].tolist() == [-1] * begin
    for number, (branch, start) in enumerate(zip(laid.branches, laid.starts, strict=True)):
        length = len(branch.ids)
        here = branch.scene, slice(start, start + length)
        assert packed.ids[here].tolist() == branch.ids
        assert packed.positions[here].tolist() == list(range(begin, begin + length)), "as if it were alone"
        assert packed.owner[here].tolist() == [number] * length
        assert free[here].all()
        free[here] = False
    assert free.any() and (packed.owner[free] == -2).all() and (packed.positions[free] == 0).all()
    image = processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert not (packed.ids[free] == image).any(), "the end shows no picture"
    assert {branch.scene for branch in laid.branches} == set(range(4)) and len(laid.branches) > 4
    assert packed.conversations == len(laid.branches)


@pytest.mark.parametrize("length", range(1, 10))
def test_rows_are_whole_eights_and_no_longer_than_needed(writer: QuestionWriter, length: int) -> None:
    branches = [conversation(0, 3, []), conversation(2, 40, []), conversation(2, length, [])]
    packed = pack(branches, writer, np.full((3, 4), -1), np.zeros((0, 4), np.float32))
    longest = len(writer.prefix_ids) + 40 + length
    assert packed.ids.shape == packed.positions.shape == packed.owner.shape
    assert packed.ids.shape[0] == 3 and packed.ids.shape[1] % 8 == 0
    assert longest <= packed.ids.shape[1] < longest + 8
    used = [3, 0, 40 + length]
    assert (packed.owner >= 0).sum(1).tolist() == used
    assert (packed.owner == -1).sum(1).tolist() == [len(writer.prefix_ids)] * 3


# ---- what is said ----------------------------------------------------------------------------------------


def test_wanted_is_what_the_labels_say(laid: Laid) -> None:
    """Every label once, weighted more where it alone is the answer, and read off the state before it."""
    expected = {}
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        for place, label in enumerate(branch.labels):
            if label != IGNORE:
                weight = DECISION_WEIGHT if place in branch.decisions else 1.0
                expected[branch.scene, start + place] = (label, weight)
    packed = laid.packed
    wanted = list(zip(packed.wanted.tolist(), packed.weights.tolist(), strict=True))
    places = said_at(packed)
    assert len(places) == len(set(places)) == len(expected)
    assert dict(zip(places, wanted, strict=True)) == expected
    assert {weight for _, weight in wanted} == {1.0, DECISION_WEIGHT}
    row, column = packed.said
    assert (packed.owner[row, column] == packed.owner[row, column + 1]).all(), "no state of another"


def test_mask_tokens_end_up_where_the_conversations_have_them(laid: Laid) -> None:
    """Those of questions in what is read, those of answers in what is said, and nothing else changes."""
    packed, before = laid.packed, (laid.packed.ids.clone(), laid.packed.wanted.clone())
    tokens = 10**6 + torch.arange(laid.masks * 32).view(-1, 32)  # no two are the same
    ids, labels = packed.ids.clone(), dict(zip(said_at(packed), packed.wanted.tolist(), strict=True))
    read = drawn = 0
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        for place, length, mask in branch.shown:
            ids[branch.scene, start + place : start + place + length] = tokens[mask, :length]
            read += length
        for place, length, mask in branch.runs:
            for n in range(length):
                labels[branch.scene, start + place + n] = tokens[mask, n].item()
            drawn += length
    assert read > 32 and drawn > 32
    assert packed.read.shape == (4, read) and packed.drawn.shape == (3, drawn)
    filled = packed.with_tokens(tokens)
    assert torch.equal(filled.ids, ids)
    assert dict(zip(said_at(filled), filled.wanted.tolist(), strict=True)) == labels
    for field in fields(Packed):
        if field.name not in ("ids", "wanted"):
            assert getattr(filled, field.name) is getattr(packed, field.name)
    assert torch.equal(packed.ids, before[0]) and torch.equal(packed.wanted, before[1])


def test_a_filled_row_reads_as_the_conversation(processor: HimtokProcessor, writer: QuestionWriter) -> None:
    question = Question("x", f"Which, {MASK}?", f"This {MASK} or that {MASK}.", mask_tokens=2)
    question = replace(question, prompt_masks=(np.ones((2, 2)),), answer_masks=(np.ones((2, 2)),) * 2)
    branch = writer.branch(1, 0, [(question, [4, 6, 5])])
    packed = pack([branch], writer, np.full((2, 4), -1), np.zeros((0, 4), np.float32))
    first = processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    filled = packed.with_tokens(first + 100 * torch.arange(7)[:, None] + torch.arange(32))
    text = processor.tokenizer.decode(filled.ids[1][filled.owner[1] == 0])
    assert text.startswith(f"Which, {mask_run(list(range(400, 432)))}?<|im_end|>")
    assert processor.tokenizer.decode(filled.wanted) == (
        f"This {mask_run([600, 601])} or that {mask_run([500, 501])}.<|im_end|>"
    )


def test_mask_tokens_that_are_said_know_their_mask_and_number(laid: Laid) -> None:
    places = said_at(laid.packed)
    expected, bounded = [], []
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        for place, length, mask in branch.runs:
            tokens = [(branch.scene, start + place + n) for n in range(length)]
            expected += [(places.index(token), mask, n) for n, token in enumerate(tokens)]
            if place + length in branch.decisions:  # a number of them was asked for
                bounded += [places.index(token) for token in tokens]
    assert columns(laid.packed.drawn) == sorted(expected)
    assert sorted(laid.packed.bounded.tolist()) == sorted(bounded)
    assert 0 < len(bounded) < len(expected)


def test_coordinates_are_the_numbers_inside_boxes(processor: HimtokProcessor, laid: Laid) -> None:
    vocabulary = processor.tokenizer.get_vocab()
    values = {vocabulary[str(number)]: number for number in range(1001)}
    places = said_at(laid.packed)
    expected, outside = [], 0
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        inside = False
        for place, label in enumerate(branch.labels):
            if label in (vocabulary["<box>"], vocabulary["</box>"]):
                inside = label == vocabulary["<box>"]
            elif label in values and inside:
                expected.append((places.index((branch.scene, start + place)), values[label]))
            outside += label in values and not inside
    assert columns(laid.packed.coordinates) == sorted(expected)
    assert len(expected) >= 8 and outside, "counts are said, too"
    moved = [laid.packed.ids[places[place]].item() for place, _ in expected]
    assert [values[token] for token in moved] != [value for _, value in expected], "they are the true ones"


def test_left_counts_down_from_the_start_of_each_mask_to_its_end(laid: Laid) -> None:
    left, complete = [], []
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        for place, length, mask in branch.runs:
            before = start + place - 1
            left += [(branch.scene, before + n, length - n) for n in range(length + 1)]
            complete += [(branch.scene, before, mask)] if length == 32 else []
    assert columns(laid.packed.left) == sorted(left)
    assert columns(laid.packed.complete) == sorted(complete)
    assert 1 < len(complete) < sum(len(branch.runs) for branch in laid.branches)


# ---- looks -----------------------------------------------------------------------------------------------


def looks_of(packed: Packed) -> list[tuple[int, int, list[bool], list[float]]]:
    """(row, column, patches, box) of each state that looks."""
    found = []
    for row, column, look in zip(*packed.looks.tolist(), strict=True):
        found.append((row, column, packed.look_patches[look].tolist(), packed.look_boxes[look].tolist()))
    return sorted(found)


def test_states_look_at_what_the_conversations_are_about(laid: Laid) -> None:
    owner, boxes = laid.targets.owner, laid.targets.boxes
    expected, several = [], 0
    for branch, start in zip(laid.branches, laid.starts, strict=True):
        for first, last, objects in branch.looks:
            mine, items = owner[branch.scene], list(objects)
            patches = [patch.item() in objects for patch in mine]
            if not any(patches):
                continue
            box = [*boxes[items, :2].amin(0).tolist(), *boxes[items, 2:].amax(0).tolist()]
            expected += [(branch.scene, start + n - 1, patches, box) for n in range(first, last)]
            several += len(objects) > 1
    assert looks_of(laid.packed) == sorted(expected) and len(expected) > 100 and several
    assert laid.packed.look_patches.dtype == torch.bool and laid.packed.look_boxes.dtype == torch.float32


def test_an_object_without_a_patch_is_not_looked_at(writer: QuestionWriter) -> None:
    """Beside one that has patches it still belongs inside the box."""
    owner = np.array([[0, 0, -1, 1, -2], [-2, 3, 3, -1, 3]])  # the third and the last object have none
    corners = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.6, 0.9], [0.0, 0.3, 0.2, 0.7], [0.5, 0.0, 1.0, 0.5]]
    boxes = np.array([*corners, [0.7, 0.7, 0.8, 0.8]], np.float32)
    branches = [
        conversation(0, 9, [(1, 3, (2,)), (3, 5, (0, 2)), (6, 7, (1,))]),
        conversation(1, 9, [(2, 4, (4,)), (4, 6, (3,))]),
        conversation(0, 9, [(5, 6, (0, 1))]),
    ]
    packed = pack(branches, writer, owner, boxes)
    begin = len(writer.prefix_ids)
    first, second, third = ((owner[scene] == item).tolist() for scene, item in ((0, 0), (0, 1), (1, 3)))
    both = np.isin(owner[0], (0, 1)).tolist()
    around = boxes[[0, 2]]
    box = [*around[:, :2].min(0).tolist(), *around[:, 2:].max(0).tolist()]
    assert box == pytest.approx([0.0, 0.2, 0.3, 0.7])
    wide = [*boxes[0, :2].tolist(), *boxes[1, 2:].tolist()]
    assert looks_of(packed) == sorted(
        [
            (0, begin + 2, first, box),
            (0, begin + 3, first, box),
            (0, begin + 5, second, boxes[1].tolist()),
            (0, begin + 9 + 4, both, wide),
            (1, begin + 3, third, boxes[3].tolist()),
            (1, begin + 4, third, boxes[3].tolist()),
        ]
    )
    assert packed.look_patches.any(1).all()


# ---- all of it -------------------------------------------------------------------------------------------


def test_a_batch_of_words_alone_draws_nothing(writer: QuestionWriter) -> None:
    answer = Branch(0, [5, 6, 7], [IGNORE, 6, 7], [], [], [], [1])
    packed = pack([answer], writer, np.full((1, 4), -1), np.zeros((0, 4), np.float32))
    assert packed.wanted.tolist() == [6, 7] and packed.weights.tolist() == [DECISION_WEIGHT, 1.0]
    for name, rows in (("read", 4), ("drawn", 3), ("coordinates", 2), ("looks", 3), ("left", 3)):
        assert getattr(packed, name).shape == (rows, 0)
    assert packed.complete.shape == (3, 0) and packed.bounded.shape == (0,)
    filled = packed.with_tokens(torch.zeros(0, 32, dtype=torch.int64))
    assert torch.equal(filled.ids, packed.ids) and torch.equal(filled.wanted, packed.wanted)


def test_all_tensors_go_to_the_device(laid: Laid) -> None:
    moved = laid.packed.to(torch.device("meta"))
    for field in fields(Packed):
        value = getattr(laid.packed, field.name)
        if isinstance(value, torch.Tensor):
            assert value.device.type == "cpu" and getattr(moved, field.name).device.type == "meta"
            assert getattr(moved, field.name).shape == value.shape
        else:
            assert getattr(moved, field.name) == value
