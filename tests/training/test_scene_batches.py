"""Scenes as tensors: what each patch shows, and conversations as the token ids that the model sees."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from himtok_core.data.questions import MASK, WEIGHTS, Question, ask_some
from himtok_core.data.scenes import World, make_scene
from himtok_core.geometry import stretch_mask
from himtok_core.lmm import HimtokProcessor
from himtok_core.markup import mask_run
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training.scene_batches import (
    IGNORE,
    Branch,
    ConversationBatches,
    Drawn,
    PatchBatches,
    QuestionWriter,
    as_shares,
    dense_targets,
    fill,
    normalised,
    pixels,
    world_names,
)

SCENES = 4


@pytest.fixture(scope="module")
def batches(processor: HimtokProcessor, world: World) -> ConversationBatches:
    patches = PatchBatches(processor, world, SCENES, seed=0, grid=8, mask_size=32)
    return ConversationBatches(patches, questions=8, weights=WEIGHTS, next_turn=0.5)


@pytest.fixture(scope="module")
def drawn(batches: ConversationBatches) -> Drawn:
    return batches(0)


@pytest.fixture(scope="module")
def branches(drawn: Drawn, processor: HimtokProcessor, mask_tokenizer: MaskTokenizer) -> list[Branch]:
    return with_tokens(drawn, processor, mask_tokenizer)


def with_tokens(drawn: Drawn, processor: HimtokProcessor, mask_tokenizer: MaskTokenizer) -> list[Branch]:
    """The conversations of a batch with the tokens of their masks."""
    branches, first = copy.deepcopy(drawn.branches), processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    if len(drawn.masks):
        tokens = (first + mask_tokenizer.encode(as_shares(drawn.masks))).tolist()
        for branch in branches:
            branch.say(tokens)
    return branches


def text_of(processor: HimtokProcessor, ids: list[int]) -> str:
    return processor.tokenizer.decode(ids)


# ---- conversations ---------------------------------------------------------------------------------------


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
    processor: HimtokProcessor, world: World
) -> None:
    """Prefix and branch, made apart, are what the processor makes of the conversation as a whole."""
    writer, rng = QuestionWriter(processor), np.random.default_rng(3)
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
                turns.append((question, 0))
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


def test_runs_are_the_tokenizers_own_codes(
    processor: HimtokProcessor, drawn: Drawn, branches: list[Branch], mask_tokenizer: MaskTokenizer
) -> None:
    first = processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    ends = processor.tokenizer.convert_tokens_to_ids(["<|mt_start|>", "<|mt_end|>"])
    tokens = mask_tokenizer.encode(as_shares(drawn.masks))
    seen, lengths = [], set()
    for branch in branches:
        for start, length, index in branch.runs + branch.shown:
            run = [token - first for token in branch.ids[start : start + length]]
            assert run == tokens[index, :length].tolist()
            label = IGNORE if (start, length, index) in branch.shown else None
            said = branch.ids[start : start + length] if label is None else [label] * length
            assert branch.labels[start : start + length] == said
            assert [branch.ids[start - 1], branch.ids[start + length]] == ends
            seen.append(index)
            lengths.add(length)
    assert sorted(seen) == list(range(len(drawn.masks))), "every mask is shown or drawn once"
    assert 32 in lengths and any(branch.shown for branch in branches)
    spoken = sum(token >= first for branch in branches for token in branch.labels)
    assert spoken == sum(length for branch in branches for _, length, _ in branch.runs)


def test_a_question_for_n_tokens_has_runs_of_n(
    processor: HimtokProcessor, world: World, mask_tokenizer: MaskTokenizer
) -> None:
    weights = {"segment_with_length": 1.0}
    patches = PatchBatches(processor, world, 3, seed=1, grid=8, mask_size=32)
    batches = ConversationBatches(patches, 4, weights, next_turn=0.0)
    drawn = batches(0)
    branches = with_tokens(drawn, processor, mask_tokenizer)
    assert len(branches) > 5
    lengths = set()
    for branch in branches:
        ((start, length, _),) = branch.runs
        spoken = branch.labels.index(branch.ids[start])
        assert str(length) in text_of(processor, branch.ids[:spoken])
        lengths.add(length)
    assert len(lengths) > 3 and len(drawn.masks) == len(branches)


def test_how_many_there_are_is_a_decision(
    processor: HimtokProcessor, world: World, mask_tokenizer: MaskTokenizer
) -> None:
    patches = PatchBatches(processor, world, 3, seed=1, grid=8, mask_size=32)
    batches = ConversationBatches(patches, 4, {"count": 1.0}, next_turn=0.0)
    branches = with_tokens(batches(0), processor, mask_tokenizer)
    said = [text_of(processor, [branch.ids[place] for place in branch.decisions]) for branch in branches]
    assert all(re.match(r"There (are \d|is (1|no \w+))$", words) for words in said), said
    assert len(set(said)) > 2
    pointing = [branch for branch in branches if branch.looks]
    assert pointing and all("is no " not in text_of(processor, branch.ids) for branch in pointing)


@pytest.mark.parametrize(("kind", "word"), [("absent", "There"), ("segment", "The"), ("segment_size", "The")])
def test_a_denial_and_its_opposite_are_decided_by_their_first_word(
    kind: str, word: str, processor: HimtokProcessor, world: World, mask_tokenizer: MaskTokenizer
) -> None:
    patches = PatchBatches(processor, world, 3, seed=2, grid=8, mask_size=32)
    batches = ConversationBatches(patches, 4, {kind: 1.0}, next_turn=0.0)
    branches = with_tokens(batches(0), processor, mask_tokenizer)
    assert len(branches) > 2
    for branch in branches:
        (place,) = branch.decisions
        assert text_of(processor, [branch.ids[place]]) == word and branch.labels[place - 1] == IGNORE


def test_a_batch_is_a_function_of_its_step(
    batches: ConversationBatches, drawn: Drawn
) -> None:
    again = batches(0)
    assert torch.equal(again.pixels, drawn.pixels) and torch.equal(again.masks, drawn.masks)
    assert again.branches == drawn.branches and len(drawn.branches) > SCENES
    assert not torch.equal(batches(1).pixels, drawn.pixels)


def test_conversations_go_on_for_several_turns(
    branches: list[Branch], processor: HimtokProcessor
) -> None:
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    turns = [branch.labels.count(end) for branch in branches]
    assert 1 in turns and max(turns) > 2 and {branch.scene for branch in branches} == set(range(SCENES))
    assert sum(turns) == 8 * SCENES


def test_turns_of_the_full_world_lean_on_one_another(
    processor: HimtokProcessor, mask_tokenizer: MaskTokenizer
) -> None:
    patches = PatchBatches(processor, World.full(), 3, seed=0, grid=8, mask_size=32)
    batches = ConversationBatches(patches, 12, WEIGHTS, next_turn=0.8)
    drawn = batches(0)
    branches = with_tokens(drawn, processor, mask_tokenizer)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lengths = [branch.labels.count(end) for branch in branches]
    assert max(lengths) > 3 and sum(lengths) == 36
    used = sorted(index for branch in branches for *_, index in branch.runs + branch.shown)
    assert used == list(range(len(drawn.masks)))


def test_looks_name_the_objects_of_the_answer(
    processor: HimtokProcessor, world: World, drawn: Drawn, branches: list[Branch]
) -> None:
    """Each stretch that is about objects is one answer or a mask that a question shows, and what it names is
    the objects of its scene.
    """
    objects_of_scenes = [set(row.tolist()) - {-1, -2} for row in drawn.targets.owner]
    found = 0
    for branch in branches:
        for start, end, objects in branch.looks:
            if branch.labels[end - 1] == IGNORE:  # 24 tokens of a mask in a question
                read = text_of(processor, branch.ids[start - 1 : end])
                assert re.fullmatch(r"(<\|mt_\d+\|>){24}<\|mt_end\|>", read)
            else:
                assert branch.labels[start - 1] == IGNORE and IGNORE not in branch.labels[start:end]
                assert text_of(processor, branch.ids[start:end]).endswith("<|im_end|>")
            mine = objects_of_scenes[branch.scene]
            assert objects and set(objects) <= set(range(min(mine), max(mine) + 1))
            found += 1
    assert found > 5


def test_each_part_of_a_list_looks_at_its_own_object(
    processor: HimtokProcessor, world: World, mask_tokenizer: MaskTokenizer
) -> None:
    """From the end of the mask before to the end of its own; objects go from left to right."""
    patches = PatchBatches(processor, world, 4, seed=2, grid=8, mask_size=32)
    batches = ConversationBatches(patches, 1, {"list_masks": 1.0}, next_turn=0.0)
    drawn = batches(0)
    names, listed = world_names(world), 0
    for branch in with_tokens(drawn, processor, mask_tokenizer):
        if len(branch.runs) == 1:
            continue  # a list of one thing is an answer like others
        assert len(branch.looks) == len(branch.runs)
        for (start, end, objects), (run, length, _) in zip(branch.looks, branch.runs, strict=True):
            said = text_of(processor, branch.ids[start:end])
            assert f"<ref>{names[drawn.targets.names[objects[0]]]}</ref> <|mt_start|>" in said
            assert len(objects) == 1 and end == run + length + 1 and IGNORE not in branch.labels[start:end]
        places = [start for start, *_ in branch.looks] + [branch.looks[-1][1]]
        assert places[1:] == [end for _, end, _ in branch.looks]
        centres = [drawn.targets.boxes[item[0], ::2].mean() for *_, item in branch.looks]
        assert centres == sorted(centres)
        listed += 1
    assert listed > 1


def test_an_unclear_place_for_a_run_is_no_problem(processor: HimtokProcessor) -> None:
    """Runs of the same placeholders are told apart, and each gets the tokens of its own mask."""
    question = Question("x", f"Which, {MASK}?", f"This {MASK} or that {MASK}.", mask_tokens=2)
    question = replace(question, prompt_masks=(np.ones((2, 2)),), answer_masks=(np.ones((2, 2)),) * 2)
    branch: Branch = QuestionWriter(processor).branch(2, 0, [(question, 4)])
    first = processor.tokenizer.convert_tokens_to_ids("<|mt_0|>")
    branch.say([[first + 100 * mask + n for n in range(32)] for mask in range(7)])
    assert [(length, index) for _, length, index in branch.runs + branch.shown] == [(2, 5), (2, 6), (32, 4)]
    for start, length, index in branch.runs + branch.shown:
        run = [token - first for token in branch.ids[start : start + length]]
        assert run == [100 * index + n for n in range(length)]
    assert mask_run(list(range(400, 432))) in text_of(processor, branch.ids)
    assert branch.scene == 2 and branch.looks == []


# ---- patches ---------------------------------------------------------------------------------------------


def test_patches_belong_to_the_objects_they_show(world: World) -> None:
    scenes = [make_scene(seed, world) for seed in range(12)]
    names = {name: i for i, name in enumerate(world_names(world))}
    targets = dense_targets(scenes, names, grid=8, mask_size=32)
    items = [item for scene in scenes for item in scene.objects]
    assert targets.owner.shape == (12, 64)
    assert [world_names(world)[i] for i in targets.names] == [item.name for item in items]
    owned, place = set(), 0
    for row, scene in zip(targets.owner, scenes, strict=True):
        width, height = scene.size
        mine = set(range(place, place + len(scene.objects)))
        assert set(row.tolist()) <= mine | {-1, -2}
        for patch, owner in enumerate(row.tolist()):
            top, left = patch // 8, patch % 8
            rows = slice(round(top * height / 8), round((top + 1) * height / 8))
            columns = slice(round(left * width / 8), round((left + 1) * width / 8))
            cover = [item.mask[rows, columns].mean() for item in scene.objects]
            if owner >= 0:
                assert cover[owner - place] > 0.15 and cover[owner - place] > max(cover) - 0.1
            elif owner == -1:
                assert max(cover) < 0.12
        owned |= mine & set(row.tolist())
        place += len(scene.objects)
    assert len(owned) > 0.9 * len(items), "nearly everything has a patch of its own"


def test_boxes_shapes_and_masks_of_objects(world: World) -> None:
    scene = make_scene(3, world)
    names = {name: i for i, name in enumerate(world_names(world))}
    targets = dense_targets([scene], names, grid=8, mask_size=64)
    width, height = scene.size
    for i, item in enumerate(scene.objects):
        x0, y0, x1, y1 = (targets.boxes[i] * torch.tensor([width, height, width, height])).tolist()
        assert (x0, y0, x1, y1) == pytest.approx(item.box, abs=1e-3)
        assert torch.equal(as_shares(targets.masks[i]), torch.from_numpy(stretch_mask(item.mask, 64)))
        assert targets.shapes[i].mean().item() == pytest.approx(item.mask.mean(), abs=0.02)
        corners = targets.shapes[i].reshape(16, 16).nonzero().float() / 16
        assert corners.min(0).values[0] == pytest.approx(y0 / height, abs=0.1)


def test_names_are_complete_and_unique(world: World) -> None:
    names = world_names(world)
    assert len(set(names)) == len(names) == len(world.concepts) + len(world.shapes) * len(world.colours)
    assert {item.name for seed in range(30) for item in make_scene(seed, world).objects} <= set(names)


def test_pixels_are_the_processors(processor: HimtokProcessor, world: World) -> None:
    scenes = [make_scene(seed, world) for seed in (1, 2)]
    side = processor.image_processor.image_size
    values = normalised(pixels(scenes, side))
    assert values.shape == (2, 3, side, side)
    alone = processor.image_processor(scenes[1].picture)["pixel_values"]
    torch.testing.assert_close(values[1:], alone)
