"""Training the language model: a resumed run is the same run; caches and losses compute what they say."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from himtok_core.data.questions import WEIGHTS
from himtok_core.data.scenes import World
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training import scene_lmm, scene_losses
from himtok_core.training.dense import DenseHeads
from himtok_core.training.losses import dice_loss, grained_labels, sample_levels
from himtok_core.training.mini import build_config, build_model
from himtok_core.training.scene_batches import (
    IGNORE,
    Branch,
    ConversationBatches,
    PatchBatches,
    as_shares,
    normalised,
)
from himtok_core.training.scene_lmm import Settings, generated_scores, train
from himtok_core.training.scene_losses import (
    States,
    branch_hidden_states,
    countdown_loss,
    forget_answers,
    hierarchical_mask_loss,
    looking_loss,
    say_masks,
    token_losses,
)
from himtok_core.training.vision import name_token_ids
from himtok_core.training.vision import save as save_vision

from .conftest import Killed, Pace, assert_same, load_state


@pytest.fixture(scope="module")
def model(processor: HimtokProcessor, mask_tokenizer: MaskTokenizer) -> HimtokForConditionalGeneration:
    torch.manual_seed(0)
    model = build_model(build_config(processor, mask_tokenizer.config)).eval()
    model.mask_tokenizer.load_state_dict(mask_tokenizer.state_dict())
    model.mask_tokenizer.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def heads(processor: HimtokProcessor, world: World) -> DenseHeads:
    torch.manual_seed(1)
    return DenseHeads(192, name_token_ids(processor, world), 32 * 12)


@pytest.fixture(scope="module")
def batches(processor: HimtokProcessor, world: World) -> ConversationBatches:
    patches = PatchBatches(processor, world, 2, seed=0, grid=8, mask_size=32)
    weights = {**WEIGHTS, "segment_with_length": 8.0, "mask_perception": 20.0}
    return ConversationBatches(patches, 6, weights, next_turn=0.4)


@pytest.fixture(scope="module")
def computed(model: HimtokForConditionalGeneration, batches: ConversationBatches) -> dict:
    """One batch and what the model makes of it."""
    drawn = batches(0)
    branches, masks = drawn.branches, as_shares(drawn.masks)
    say_masks(branches, masks, model)
    with torch.no_grad():
        visual = model.model.get_image_features(normalised(drawn.pixels)).pooler_output
        states = branch_hidden_states(model, visual, batches.writer.prefix_ids, branches)
    return {"drawn": drawn, "branches": branches, "masks": masks, "visual": visual, "states": states}


def of_branch(states: States, depth: torch.Tensor, number: int) -> torch.Tensor:
    """(tokens of the conversation, D)."""
    length = len(states.branches[number].ids)
    return states.at(depth, [number] * length, range(length))


def without_masks(states: States) -> States:
    silent = [branch for branch in states.branches if not branch.runs]
    kept = [number for number, branch in enumerate(states.branches) if not branch.runs]
    return replace(states, branches=silent, starts=states.starts[kept])


# ---- the run ---------------------------------------------------------------------------------------------


def test_stopped_killed_and_resumed_is_the_same_run(
    model: HimtokForConditionalGeneration,
    heads: DenseHeads,
    processor: HimtokProcessor,
    tmp_path: Path,
    pace: Pace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both stages: boxes from the vision tower's run, then everything from that of the boxes."""

    def few(model, processor, world, kinds):
        return generated_scores(model, processor, world, kinds[-1:], count=1)

    monkeypatch.setattr(scene_lmm, "generated_scores", few)
    save_vision(model, heads, tmp_path / "vision")
    processor.save_pretrained(tmp_path / "vision" / "model")
    (tmp_path / "vision" / "settings.json").write_text(json.dumps({"steps": 3}))
    model.mask_tokenizer.save_pretrained(tmp_path / "masks")
    small = Settings(
        init=str(tmp_path / "vision"),
        mask_tokenizer=str(tmp_path / "masks"),
        tasks="boxes",
        steps=1,
        scenes=2,
        questions=3,
        mask_loss_masks=2,
    )
    train(small, tmp_path / "boxes")
    (row,) = rows(tmp_path / "boxes")
    assert row["step"] == 1 and 0 <= row["box_box_iou"] <= 1

    pace.rules(scene_lmm, monkeypatch)
    settings = replace(small, init=str(tmp_path / "boxes"), tasks="all", steps=3)
    train(settings, tmp_path / "whole")
    train(settings, tmp_path / "parts", minutes=0.5)
    assert load_state(tmp_path / "parts")["step"] == 1
    pace.kill_at = 2
    with pytest.raises(Killed):
        train(settings, tmp_path / "parts")
    pace.kill_at = None
    train(settings, tmp_path / "parts")
    assert pace.steps == [0, 1, 2] + [0] + [1, 2] + [1, 2]
    assert_same(load_state(tmp_path / "whole"), load_state(tmp_path / "parts"))

    assert [row["step"] for row in rows(tmp_path / "parts")] == [1, 3]
    assert {"segment_then_box_iou", "segment_then_box_box_iou"} <= set(rows(tmp_path / "parts")[-1])
    trained = HimtokForConditionalGeneration.from_pretrained(tmp_path / "parts" / "model")
    assert_same(dict(trained.mask_tokenizer.state_dict()), dict(model.mask_tokenizer.state_dict()))
    assert (trained.lm_head.weight - model.lm_head.weight).abs().max() > 0


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# ---- branches --------------------------------------------------------------------------------------------


def test_a_branch_beside_others_equals_the_conversation_alone(
    model: HimtokForConditionalGeneration,
    batches: ConversationBatches,
    computed: dict,
) -> None:
    prefix, states = batches.writer.prefix_ids, computed["states"]
    for number, branch in enumerate(computed["branches"]):
        values = normalised(computed["drawn"].pixels[branch.scene][None])
        ids = torch.tensor([prefix + branch.ids])
        with torch.no_grad():
            whole = model.model(input_ids=ids, pixel_values=values, output_hidden_states=True)
        last = whole.last_hidden_state[0, len(prefix) :]
        torch.testing.assert_close(of_branch(states, states.last, number), last, rtol=1e-3, atol=1e-3)
        depths = [depth[0, len(prefix) :] for depth in whole.hidden_states]  # after 0, 1, ... 4 layers
        for depth, alone in ((states.halfway, depths[2]), (states.below, depths[3])):
            torch.testing.assert_close(of_branch(states, depth, number), alone, rtol=1e-3, atol=1e-3)
    assert len({branch.scene for branch in computed["branches"]}) < len(computed["branches"])


# ---- losses ----------------------------------------------------------------------------------------------


def test_words_count_whole_decisions_more_and_mask_tokens_less_and_less(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor, computed: dict
) -> None:
    vocabulary = processor.tokenizer.get_vocab()
    numbers = torch.tensor([vocabulary[str(n)] for n in range(1001)])
    tags = [vocabulary["<box>"], vocabulary["</box>"]]
    words, weighted, mask_losses, first_losses, coordinates = 0.0, 0.0, [], [], 0
    states = computed["states"]
    decisions, end = set(), vocabulary["<|mt_end|>"]
    with torch.no_grad():
        loss, shown = token_losses(
            model, states, torch.cat([numbers, torch.tensor(tags)]), mask_token_weight=0.5
        )
        for row, branch in enumerate(states.branches):
            logs = model.lm_head(of_branch(states, states.last, row)).log_softmax(-1)
            places = {start + n: n for start, length, _ in branch.runs for n in range(length)}
            runs = [run for run in branch.runs if sum(run[:2]) in branch.decisions]
            asked_for = {start + n for start, length, _ in runs for n in range(length)}
            in_box = False
            for place, label in enumerate(branch.labels):
                if label == IGNORE:
                    continue
                surprise = -logs[place - 1, label].item()
                if label in tags:
                    in_box = label == tags[0]
                value = (numbers == label).nonzero().flatten().tolist()
                if in_box and value:
                    away = (torch.arange(1001) - value[0]) / scene_losses.NUMBER_SPREAD
                    near = torch.exp(-0.5 * away**2)
                    surprise = -(near / near.sum() @ logs[place - 1, numbers]).item()
                    coordinates += 1
                if place in places:
                    weighted += 0.5 / (1 + places[place] / 8) * surprise
                    if place in asked_for:
                        weighted -= 4 * torch.log1p(-logs[place - 1, end].exp()).item()
                    mask_losses.append(surprise)
                    first_losses += [surprise] if places[place] == 0 else []
                else:
                    words += surprise
                    if place in branch.decisions:
                        weighted += 3 * surprise
                        decisions.add(place in {start + length for start, length, _ in branch.runs})
    count = len(computed["branches"])
    assert decisions == {True, False}, "ends of masks and letters of choices"
    assert coordinates >= 4 and coordinates % 4 == 0 and first_losses
    assert loss.item() == pytest.approx((words + weighted) / (4 * count), rel=1e-4)
    assert shown["words"] == pytest.approx(words / count, rel=1e-4)
    assert shown["mask_tokens"] == pytest.approx(sum(mask_losses) / len(mask_losses), rel=1e-4)
    assert shown["first_mask_token"] == pytest.approx(sum(first_losses) / len(first_losses), rel=1e-4)


def test_answers_do_not_read_the_truth_of_what_they_draw(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor, computed: dict
) -> None:
    """Of masks nothing is left, of boxes about where they are, of all else everything; unless the masks are
    there to be read, and then nothing of them is learned.
    """
    vocabulary, config = processor.tokenizer.get_vocab(), model.config
    values = {vocabulary[str(n)]: n for n in range(1001)}
    tags = [vocabulary["<box>"], vocabulary["</box>"]]
    numbers, masks = torch.tensor([*values, *tags]), range(config.first_mask_id, config.last_mask_id + 1)
    moves, kept, total, readable = [], 0, 0, []
    for seed in range(60):
        forgotten = copy.deepcopy(computed["branches"])
        forget_answers(forgotten, masks, numbers, np.random.default_rng(seed))
        for before, after in zip(computed["branches"], forgotten, strict=True):
            reads = before.runs != after.runs
            if before.runs:
                start, length, _ = before.runs[0]
                goes_on = len(before.runs) > 1 or IGNORE in before.labels[start + length :]
                assert goes_on or not reads
                readable += [reads] if goes_on else []
            labels = [IGNORE if reads and label in masks else label for label in before.labels]
            runs = [] if reads else before.runs
            assert replace(after, ids=before.ids) == replace(before, labels=labels, runs=runs)
            inside = False
            for label, read, truth in zip(before.labels, after.ids, before.ids, strict=True):
                inside = (inside or label == tags[0]) and label != tags[1]
                if label in masks and not reads:
                    assert read in masks
                    kept, total = kept + (read == truth), total + 1
                elif inside and label in values:
                    moves.append(values[read] - values[truth])
                else:
                    assert read == truth
    assert total > 2000 and kept < 0.01 * total
    assert len(readable) > 40 and abs(np.mean(readable) - scene_losses.READING) < 0.2
    assert len(moves) >= 80 and abs(np.mean(moves)) < 8
    assert 0.6 * scene_losses.NUMBER_SPREAD < np.std(moves) < 1.4 * scene_losses.NUMBER_SPREAD


def test_mask_loss_teaches_the_states_before_mask_tokens_only(
    model: HimtokForConditionalGeneration, computed: dict
) -> None:
    last = computed["states"].last.clone().requires_grad_()
    states = replace(computed["states"], last=last)
    loss = hierarchical_mask_loss(
        model, states, computed["masks"], 100, 2, torch.Generator().manual_seed(0)
    )
    loss.backward()
    reached = replace(states, last=last.grad)
    for number, branch in enumerate(states.branches):
        expected = torch.zeros(len(branch.ids), dtype=torch.bool)
        for start, length, _ in branch.runs:
            if length == 32:
                expected[start - 1 : start + 31] = True
        assert torch.equal(of_branch(reached, reached.last, number).abs().sum(-1) > 0, expected)
    assert not [name for name, p in model.mask_tokenizer.named_parameters() if p.grad is not None]
    model.zero_grad()


def test_mask_loss_measures_what_soft_decoding_draws(
    model: HimtokForConditionalGeneration, computed: dict
) -> None:
    """The complete masks against their labels, and one prefix of each against its blurred label."""
    tokenizer, config, states = model.mask_tokenizer, model.config, computed["states"]
    found = []
    with torch.no_grad():
        for number, branch in enumerate(states.branches):
            for start, length, index in branch.runs:
                if length == 32:
                    logits = model.lm_head(of_branch(states, states.last, number)[start - 1 : start + 31])
                    logits = logits[:, config.first_mask_id : config.last_mask_id + 1]
                    found.append(((2 * logits).softmax(-1), computed["masks"][index]))
        loss = hierarchical_mask_loss(
            model, states, computed["masks"], 2, 1, torch.Generator().manual_seed(5)
        )
        generator = torch.Generator().manual_seed(5)
        order = torch.randperm(len(found), generator=generator)[:2].tolist()
        levels = sample_levels(generator, 2)
        drawn, labels = [], []
        for place, i in enumerate(order):
            probabilities, mask = found[i]
            drawn += list(tokenizer.decode_prefixes(probabilities[None], [32, levels[place].item()])[0])
            labels += [mask, grained_labels(mask[None], levels[place : place + 1])[0]]
        drawn, labels = torch.stack(drawn), torch.stack(labels)
    expected = F.binary_cross_entropy(drawn, labels) + 0.25 * dice_loss(drawn, labels)
    assert len(found) > 2 and loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_without_a_complete_run_there_is_no_mask_loss(
    model: HimtokForConditionalGeneration, computed: dict
) -> None:
    states = without_masks(computed["states"])
    loss = hierarchical_mask_loss(model, states, computed["masks"], 10, 2, torch.Generator())
    assert loss.item() == 0


def test_counting_down_to_the_end_of_a_mask(heads: DenseHeads, computed: dict) -> None:
    """The states that draw token n of N and the one that ends the mask learn that N - n tokens are left."""
    below = computed["states"].below.clone().requires_grad_()
    states = replace(computed["states"], below=below)
    loss, shown = countdown_loss(heads, states)
    loss.backward()
    heads.zero_grad()
    losses, right = [], []
    for number, branch in enumerate(states.branches):
        expected = torch.zeros(len(branch.ids), dtype=torch.bool)
        for start, length, _ in branch.runs:
            expected[start - 1 : start + length] = True
            with torch.no_grad():
                drawing = of_branch(states, below, number)[start - 1 : start + length]
                logs = heads.left(drawing).log_softmax(-1)
            for n in range(length + 1):
                losses.append(-logs[n, length - n].item())
                right.append(logs[n].argmax().item() == length - n)
        assert torch.equal(of_branch(states, below.grad, number).abs().sum(-1) > 0, expected)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert shown["left"] == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert countdown_loss(heads, without_masks(computed["states"])) == (0, {})


def test_looking_counts_the_words_of_answers_about_objects(
    model: HimtokForConditionalGeneration, heads: DenseHeads, computed: dict
) -> None:
    targets = computed["drawn"].targets
    states = computed["states"]
    halfway, below = states.halfway.clone().requires_grad_(), states.below.clone().requires_grad_()
    states = replace(states, halfway=halfway, below=below)
    loss, shown = looking_loss(heads, states, computed["visual"], targets)
    assert loss.item() > 0 and 0 <= shown["looks"] <= 1 and 0 <= shown["answer_box_l1"] <= 1
    loss.backward()
    heads.zero_grad()
    for number, branch in enumerate(states.branches):
        expected = torch.zeros(len(branch.ids), dtype=torch.bool)
        for start, end, _ in branch.looks:
            expected[start - 1 : end - 1] = True
        for depth in (halfway, below):
            assert torch.equal(of_branch(states, depth.grad, number).abs().sum(-1) > 0, expected)
    nothing = replace(targets, owner=torch.full_like(targets.owner, -1))
    assert looking_loss(heads, states, computed["visual"], nothing)[0].item() == 0


def test_the_box_of_an_answer_goes_around_all_its_objects(
    model: HimtokForConditionalGeneration, heads: DenseHeads, computed: dict
) -> None:
    targets = computed["drawn"].targets
    ones = torch.zeros(2, 8, 192)
    branch = Branch(0, [0] * 8, [0] * 8, [], [], [(2, 4, (0, 1))], [])
    assert (targets.owner[0] == 1).any()
    heads = copy.deepcopy(heads)
    torch.nn.init.zeros_(heads.answer_box.weight)
    x0, y0 = targets.boxes[:2, :2].amin(0)
    x1, y1 = targets.boxes[:2, 2:].amax(0)
    heads.answer_box.bias.data = torch.logit(torch.stack([x0, y0, x1, y1]), eps=1e-6)
    states = States([branch], np.array([0]), ones, ones, ones)
    _, shown = looking_loss(heads, states, computed["visual"], targets)
    assert shown["answer_box_l1"] < 1e-4


def test_a_model_that_ships_learns_on(
    model: HimtokForConditionalGeneration,
    processor: HimtokProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its folder has no side heads and no settings: those begin anew, and all its words are kept."""
    monkeypatch.setattr(scene_lmm, "generated_scores", lambda *_: {"segment_iou": 0.5})
    model.save_pretrained(tmp_path / "shipped")
    processor.save_pretrained(tmp_path / "shipped")
    model.mask_tokenizer.save_pretrained(tmp_path / "masks")
    settings = Settings(
        init=str(tmp_path / "shipped"),
        mask_tokenizer=str(tmp_path / "masks"),
        steps=1,
        scenes=2,
        questions=2,
    )
    train(settings, tmp_path / "run")
    trained = HimtokForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    for name in ("lm_head", "model.language_model.embed_tokens"):
        moved = trained.get_submodule(name).weight - model.get_submodule(name).weight
        assert 0 < moved.abs().max() < 0.01, "one step in the warm-up"
