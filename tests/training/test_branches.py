"""Conversations as token ids: what is asked, what is said, where masks belong, and what is forgotten."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest

from himtok_core.data.questions import MASK, WEIGHTS, Question, ask_some
from himtok_core.data.scenes import World, make_scene
from himtok_core.lmm import HimtokProcessor
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training.branches import IGNORE, NUMBER_SPREAD, READING, Branch, QuestionWriter, fill
from himtok_core.training.scene_batches import Asked, ConversationBatches, PatchBatches, as_shares


@pytest.fixture(scope="module")
def writer(processor: HimtokProcessor) -> QuestionWriter:
    return QuestionWriter(processor)


@pytest.fixture(scope="module")
def asked(processor: HimtokProcessor, world: World) -> Asked:
    patches = PatchBatches(processor, world, 4, seed=0, grid=8, mask_size=32)
    return ConversationBatches(patches, questions=8, weights=WEIGHTS, next_turn=0.5).asked(0)


@pytest.fixture(scope="module")
def branches(asked: Asked) -> list[Branch]:
    return asked.branches


def asked_of_kind(
    kind: str, processor: HimtokProcessor, world: World, seed: int, questions: int = 4, scenes: int = 3
) -> Asked:
    """Conversations of one turn, all of one kind."""
    patches = PatchBatches(processor, world, scenes, seed, grid=8, mask_size=32)
    return ConversationBatches(patches, questions, {kind: 1.0}, next_turn=0.0).asked(0)


def text_of(processor: HimtokProcessor, ids: list[int]) -> str:
    return processor.tokenizer.decode(ids)


# ---- what is asked and said ------------------------------------------------------------------------------


def test_labels_lie_on_what_the_model_says(processor: HimtokProcessor, branches: list[Branch]) -> None:
    """The text of the labels is the answers with <|im_end|>, and everything else is the chat template's."""
    for branch in branches:
        assert len(branch.ids) == len(branch.labels)
        said, asked = [], []
        for token, label in zip(branch.ids, branch.labels, strict=True):
            assert label in (token, IGNORE)
            (asked if label == IGNORE else said).append(token)
        answers = text_of(processor, said).split("<|im_end|>")
        assert answers[-1] == "" and all(answers[:-1])
        assert "<|im_start|>" not in text_of(processor, said)
        turns = text_of(processor, asked).split("<|im_start|>assistant\n")
        assert len(turns) == len(answers) and turns[-1] == ""
        assert all(turn.endswith("<|im_end|>\n") for turn in turns[:-1])


def test_ids_are_those_of_the_processors_own_template(
    processor: HimtokProcessor, writer: QuestionWriter, world: World
) -> None:
    """Prefix and branch, made apart, are what the processor makes of the conversation as a whole."""
    rng = np.random.default_rng(3)
    kinds = set()
    for seed in range(6):
        scene = make_scene(seed, world)
        asked = ask_some(scene, rng, world, 8)
        for first, second in zip(asked[:-1], asked[1:], strict=True):
            turns, messages = [], []
            for question in (first, second):
                kinds.add(question.kind)
                given = [32] * len(question.prompt_masks)
                drawn = [question.mask_tokens or 32] * len(question.answer_masks)
                turns.append((question, [0] * len(given + drawn)))
                messages += [
                    {"role": "user", "content": [{"type": "text", "text": fill(question.prompt, given)}]},
                    {"role": "assistant", "content": fill(question.answer, drawn)},
                ]
            messages[0]["content"].insert(0, {"type": "image", "image": scene.picture})
            expected = processor.apply_chat_template(
                messages, tokenize=True, return_dict=True, return_tensors="pt"
            )["input_ids"][0].tolist()
            branch = writer.branch(0, 0, turns)
            newline = processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
            assert writer.prefix_ids + branch.ids + newline == expected
    assert len(kinds) > 10


def test_the_writer_knows_the_vocabulary(
    processor: HimtokProcessor, writer: QuestionWriter, mask_tokenizer: MaskTokenizer
) -> None:
    codes = mask_tokenizer.config.codebook_size
    names = processor.tokenizer.convert_ids_to_tokens
    assert names(list(writer.mask_ids)) == [f"<|mt_{code}|>" for code in range(codes)]
    assert names(writer.numbers) == [str(number) for number in range(1001)]
    assert names([writer.box_start, writer.box_end]) == ["<box>", "</box>"]


def test_conversations_go_on_for_several_turns(
    asked: Asked, branches: list[Branch], processor: HimtokProcessor
) -> None:
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    turns = [branch.labels.count(end) for branch in branches]
    assert 1 in turns and max(turns) > 2
    assert {branch.scene for branch in branches} == set(range(len(asked.scenes)))
    assert sum(turns) == 8 * len(asked.scenes)


# ---- masks -----------------------------------------------------------------------------------------------


def test_runs_are_the_places_of_mask_tokens(processor: HimtokProcessor, branches: list[Branch]) -> None:
    """Between the tags, those of the questions and those of the answers, and nowhere else."""
    first = processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    ends = processor.tokenizer.convert_tokens_to_ids(["<|mt_start|>", "<|mt_end|>"])
    lengths = set()
    for branch in branches:
        for start, length, _ in branch.runs + branch.shown:
            assert branch.ids[start : start + length] == [first] * length
            assert [branch.ids[start - 1], branch.ids[start + length]] == ends
            lengths.add(length)
        for runs, tokens in ((branch.runs, branch.labels), (branch.runs + branch.shown, branch.ids)):
            places = [place for start, length, _ in runs for place in range(start, start + length)]
            assert sorted(places) == [place for place, token in enumerate(tokens) if token >= first]
    assert 32 in lengths and any(branch.shown for branch in branches)


def test_an_unclear_place_for_a_run_is_no_problem(processor: HimtokProcessor, writer: QuestionWriter) -> None:
    """Runs of the same placeholders are told apart, and each belongs to its own mask."""
    question = Question("x", f"Which, {MASK}?", f"This {MASK} or that {MASK}.", mask_tokens=2)
    question = replace(question, prompt_masks=(np.ones((2, 2)),), answer_masks=(np.ones((2, 2)),) * 2)
    branch = writer.branch(2, 0, [(question, [4, 6, 5]), (question, [6, 0, 4])])
    first = processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    assert [run[1:] for run in branch.shown] == [(32, 4), (32, 6)]
    assert [run[1:] for run in branch.runs] == [(2, 6), (2, 5), (2, 0), (2, 4)]
    filled = list(branch.ids)
    for start, length, index in branch.runs + branch.shown:
        assert branch.ids[start : start + length] == [first] * length
        filled[start : start + length] = [first + 100 * index + n for n in range(length)]

    def run(index: int, length: int) -> str:
        tokens = "".join(f"<|mt_{100 * index + n}|>" for n in range(length))
        return f"<|mt_start|>{tokens}<|mt_end|>"

    text, last = text_of(processor, filled), -1
    for shown, one, other in ((4, 6, 5), (6, 0, 4)):
        for said in (f"Which, {run(shown, 32)}?", f"This {run(one, 2)} or that {run(other, 2)}.<|im_end|>"):
            assert text.count(said) == 1 and text.index(said) > last
            last = text.index(said)
    assert branch.scene == 2 and branch.looks == []


def test_a_question_for_n_tokens_has_runs_of_n(processor: HimtokProcessor, world: World) -> None:
    branches = asked_of_kind("segment_with_length", processor, world, seed=1).branches
    assert len(branches) > 5
    lengths = set()
    for branch in branches:
        ((start, length, _),) = branch.runs
        spoken = branch.labels.index(branch.ids[start])
        assert spoken == start and str(length) in text_of(processor, branch.ids[:spoken])
        lengths.add(length)
    assert len(lengths) > 3


# ---- decisions and looks ---------------------------------------------------------------------------------


def test_how_many_there_are_is_a_decision(processor: HimtokProcessor, world: World) -> None:
    branches = asked_of_kind("count", processor, world, seed=1).branches
    said = [text_of(processor, [branch.ids[place] for place in branch.decisions]) for branch in branches]
    assert all(re.match(r"There (are \d|is (1|no \w+))$", words) for words in said), said
    assert len(set(said)) > 2
    pointing = [branch for branch in branches if branch.looks]
    assert pointing and all("is no " not in text_of(processor, branch.ids) for branch in pointing)


@pytest.mark.parametrize(("kind", "word"), [("absent", "There"), ("segment", "The"), ("segment_size", "The")])
def test_a_denial_and_its_opposite_are_decided_by_their_first_word(
    kind: str, word: str, processor: HimtokProcessor, world: World
) -> None:
    branches = asked_of_kind(kind, processor, world, seed=2).branches
    assert len(branches) > 2
    for branch in branches:
        (place,) = branch.decisions
        assert text_of(processor, [branch.ids[place]]) == word and branch.labels[place - 1] == IGNORE


def test_looks_name_the_objects_of_the_answer(
    processor: HimtokProcessor, asked: Asked, branches: list[Branch]
) -> None:
    """Each stretch that is about objects is one answer or a mask that a question shows, and what it names is
    the objects of its scene.
    """
    first_objects = np.cumsum([0, *(len(scene.objects) for scene in asked.scenes)])
    found = 0
    for branch in branches:
        for start, end, objects in branch.looks:
            if branch.labels[end - 1] == IGNORE:  # 24 tokens of a mask in a question
                read = text_of(processor, branch.ids[start - 1 : end])
                assert re.fullmatch(r"(<\|mt_\d+\|>){24}<\|mt_end\|>", read)
            else:
                assert branch.labels[start - 1] == IGNORE and IGNORE not in branch.labels[start:end]
                assert text_of(processor, branch.ids[start:end]).endswith("<|im_end|>")
            assert objects and set(objects) <= set(range(*first_objects[branch.scene : branch.scene + 2]))
            found += 1
    assert found > 5


def test_each_part_of_a_list_looks_at_its_own_object(processor: HimtokProcessor, world: World) -> None:
    """From the end of the mask before to the end of its own; objects go from left to right."""
    asked = asked_of_kind("list_masks", processor, world, seed=2, questions=1, scenes=4)
    objects_of_batch, listed = [item for scene in asked.scenes for item in scene.objects], 0
    for branch in asked.branches:
        if len(branch.runs) == 1:
            continue  # a list of one thing is an answer like others
        assert len(branch.looks) == len(branch.runs)
        for (start, end, objects), (run, length, _) in zip(branch.looks, branch.runs, strict=True):
            said = text_of(processor, branch.ids[start:end])
            assert f"<ref>{objects_of_batch[objects[0]].name}</ref> <|mt_start|>" in said
            assert len(objects) == 1 and end == run + length + 1 and IGNORE not in branch.labels[start:end]
        places = [start for start, *_ in branch.looks] + [branch.looks[-1][1]]
        assert places[1:] == [end for _, end, _ in branch.looks]
        boxes = [objects_of_batch[item[0]].box for *_, item in branch.looks]
        centres = [box[0] + box[2] for box in boxes]
        assert centres == sorted(centres)
        listed += 1
    assert listed > 1


# ---- what is forgotten -----------------------------------------------------------------------------------


def test_answers_do_not_read_the_truth_of_what_they_draw(
    processor: HimtokProcessor, writer: QuestionWriter, asked: Asked, mask_tokenizer: MaskTokenizer
) -> None:
    """Of masks nothing is left, of boxes about where they are, of all else everything; unless the masks are
    there to be read, and then nothing of them is learned.
    """
    vocabulary = processor.tokenizer.get_vocab()
    values = {vocabulary[str(n)]: n for n in range(1001)}
    tags = [vocabulary["<box>"], vocabulary["</box>"]]
    codes = mask_tokenizer.config.codebook_size
    masks = range(vocabulary["<|mt_0|>"], vocabulary["<|mt_0|>"] + codes)
    truths = (masks[0] + mask_tokenizer.encode(as_shares(asked.masks))).tolist()
    moves, kept, total, readable, drawn = [], 0, 0, [], set()
    for seed in range(60):
        forgotten = copy.deepcopy(asked.branches)
        writer.forget_answers(forgotten, np.random.default_rng(seed))
        for before, after in zip(asked.branches, forgotten, strict=True):
            reads = before.runs != after.runs
            assert before.runs or not before.goes_on
            if before.runs:
                start, length, _ = before.runs[0]
                goes_on = len(before.runs) > 1 or IGNORE in before.labels[start + length :]
                assert before.goes_on == goes_on and (goes_on or not reads)
                readable += [reads] if goes_on else []
            labels = [IGNORE if reads and label in masks else label for label in before.labels]
            runs = [] if reads else before.runs
            shown = before.shown + (before.runs if reads else [])
            assert replace(after, ids=before.ids) == replace(before, labels=labels, runs=runs, shown=shown)
            true_ids = list(before.ids)
            for start, length, index in before.runs:
                true_ids[start : start + length] = truths[index][:length]
            inside = False
            for label, read, asked_id, truth in zip(
                before.labels, after.ids, before.ids, true_ids, strict=True
            ):
                inside = (inside or label == tags[0]) and label != tags[1]
                if label in masks and not reads:
                    assert read in masks
                    kept, total = kept + (read == truth), total + 1
                    drawn.add(read)
                elif inside and label in values:
                    moves.append(values[read] - values[asked_id])
                else:
                    assert read == asked_id
    assert total > 2000 and kept < 0.01 * total
    assert len(drawn) > 0.8 * codes, "any mask token may stand there"
    assert len(readable) > 40 and abs(np.mean(readable) - READING) < 0.1
    assert len(moves) >= 80 and abs(np.mean(moves)) < 8
    assert 0.6 * NUMBER_SPREAD < np.std(moves) < 1.4 * NUMBER_SPREAD


def test_a_coordinate_stays_in_the_picture(writer: QuestionWriter) -> None:
    sides = [writer.numbers[0], writer.numbers[1000]] * 200
    ids = [writer.box_start, *sides, writer.box_end]
    branch = Branch(0, list(ids), list(ids), [], [], [], [])
    writer.forget_answers([branch], np.random.default_rng(0))
    assert branch.labels == ids
    low = [writer.numbers.index(token) for token in branch.ids[1:-1:2]]
    high = [writer.numbers.index(token) for token in branch.ids[2:-1:2]]
    assert min(low) == 0 < max(low) < 100 and 900 < min(high) < 1000 == max(high)


def test_inside_a_box_is_from_its_opening_tag_on(writer: QuestionWriter) -> None:
    opening, closing, word, number = writer.box_start, writer.box_end, writer.mask_ids[0], writer.numbers[7]
    labels = np.array(
        [
            [number, opening, number, word, closing, number, opening, closing],
            [IGNORE, number, word, IGNORE, number, opening, number, closing],
        ]
    )
    inside = [[0, 1, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 1, 0]]
    assert writer.inside_boxes(labels).tolist() == np.array(inside, bool).tolist()
    assert writer.inside_boxes(labels[1]).tolist() == np.array(inside[1], bool).tolist()
