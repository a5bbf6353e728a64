"""Training the language model: a resumed run is the same run; caches and losses compute what they say."""

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from himtok_core.data.questions import WEIGHTS
from himtok_core.data.scenes import World
from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor
from himtok_core.mask_tokenizer import MaskTokenizer
from himtok_core.training import scene_lmm
from himtok_core.training.branches import IGNORE, NUMBER_SPREAD, Branch
from himtok_core.training.dense import DenseHeads
from himtok_core.training.losses import dice_loss, grained_labels, sample_levels
from himtok_core.training.mini import build_config, build_model
from himtok_core.training.packing import Packed, pack
from himtok_core.training.scene_batches import (
    ConversationBatches,
    DenseTargets,
    PatchBatches,
    as_shares,
    normalised,
)
from himtok_core.training.scene_lmm import Settings, generated_scores, train
from himtok_core.training.scene_losses import (
    States,
    countdown_loss,
    hidden_states,
    hierarchical_mask_loss,
    looking_loss,
    say_masks,
    token_losses,
)
from himtok_core.training.vision import name_token_ids
from himtok_core.training.vision import save as save_vision

from .conftest import Killed, Pace, assert_same, beginnings, load_state


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


@dataclass
class Computed:
    """One batch and what the model makes of it.

    Attributes:
        branches: the conversations, with the tokens of the masks that can be read or are to be said.
        starts: the place in its picture's row where each of them begins.
    """

    pixels: torch.Tensor
    targets: DenseTargets
    branches: list[Branch]
    starts: list[int]
    masks: torch.Tensor
    packed: Packed
    visual: torch.Tensor
    states: States

    def of_branch(self, depth: torch.Tensor, number: int) -> torch.Tensor:
        """Of one of the depths, or of its gradient, the states of a conversation: (tokens, D)."""
        branch, start = self.branches[number], self.starts[number]
        return depth[branch.scene, start : start + len(branch.ids)]

    def assert_reached(self, gradient: torch.Tensor, places: list[set[int]]) -> None:
        """The gradient reaches these places of each conversation, and nothing else."""
        expected = torch.zeros(gradient.shape[:2], dtype=torch.bool)
        for branch, start, mine in zip(self.branches, self.starts, places, strict=True):
            expected[branch.scene, [start + place for place in mine]] = True
        assert expected.any() and torch.equal(gradient.abs().sum(-1) > 0, expected)


@pytest.fixture(scope="module")
def computed(model: HimtokForConditionalGeneration, batches: ConversationBatches) -> Computed:
    asked, writer = batches.asked(0), batches.writer
    pixels, targets = batches.patches.of(asked.scenes)
    writer.forget_answers(asked.branches, np.random.default_rng(0))
    packed = packed_of(asked.branches, batches, targets)
    masks = as_shares(asked.masks)
    packed = say_masks(packed, masks, model)
    with torch.no_grad():
        visual = model.model.get_image_features(normalised(pixels)).pooler_output
        states = hidden_states(model, visual, packed)
    tokens = (model.config.first_mask_id + model.mask_tokenizer.encode(masks)).tolist()
    branches = copy.deepcopy(asked.branches)
    for branch in branches:
        for runs, ids in ((branch.shown, branch.ids), (branch.runs, branch.labels)):
            for start, length, mask in runs:
                ids[start : start + length] = tokens[mask][:length]
    starts = beginnings(branches, len(writer.prefix_ids))
    return Computed(pixels, targets, branches, starts, masks, packed, visual, states)


def packed_of(branches: list[Branch], batches: ConversationBatches, targets: DenseTargets) -> Packed:
    return pack(branches, batches.writer, targets.owner.numpy(), targets.boxes.numpy())


def without_masks(computed: Computed, batches: ConversationBatches) -> Packed:
    """Only the conversations that draw nothing."""
    silent = [branch for branch in computed.branches if not branch.runs]
    assert silent and len(silent) < len(computed.branches)
    return packed_of(silent, batches, computed.targets)


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


# ---- conversations ---------------------------------------------------------------------------------------


def test_a_branch_beside_others_equals_the_conversation_alone(
    model: HimtokForConditionalGeneration,
    batches: ConversationBatches,
    computed: Computed,
) -> None:
    prefix, states = batches.writer.prefix_ids, computed.states
    for number, branch in enumerate(computed.branches):
        values = normalised(computed.pixels[branch.scene][None])
        ids = torch.tensor([prefix + branch.ids])
        with torch.no_grad():
            whole = model.model(input_ids=ids, pixel_values=values, output_hidden_states=True)
        last = whole.last_hidden_state[0, len(prefix) :]
        torch.testing.assert_close(computed.of_branch(states.last, number), last, rtol=1e-3, atol=1e-3)
        depths = [depth[0, len(prefix) :] for depth in whole.hidden_states]  # after 0, 1, ... 4 layers
        for depth, alone in ((states.halfway, depths[2]), (states.below, depths[3])):
            torch.testing.assert_close(computed.of_branch(depth, number), alone, rtol=1e-3, atol=1e-3)
    assert len({branch.scene for branch in computed.branches}) < len(computed.branches)
    assert any(branch.shown for branch in computed.branches)


def test_masks_are_said_in_the_tokenizers_own_codes(
    model: HimtokForConditionalGeneration, batches: ConversationBatches, computed: Computed
) -> None:
    """Where they are read and where they are wanted; what was said of them before is not the truth."""
    config = model.config
    assert batches.writer.mask_ids == range(config.first_mask_id, config.last_mask_id + 1)
    kept = total = 0
    for number, branch in enumerate(computed.branches):
        assert computed.of_branch(computed.packed.ids, number).tolist() == branch.ids
        for start, length, _ in branch.runs:
            said = zip(branch.ids[start:], branch.labels[start : start + length])
            kept, total = kept + sum(token == label for token, label in said), total + length
    wanted = {
        (row, column + 1): label
        for row, column, label in zip(*computed.packed.said.tolist(), computed.packed.wanted.tolist())
    }
    labels = {
        (branch.scene, start + place): label
        for branch, start in zip(computed.branches, computed.starts, strict=True)
        for place, label in enumerate(branch.labels)
        if label != IGNORE
    }
    assert wanted == labels
    assert total > 100 and kept < 0.05 * total


def test_without_masks_there_is_nothing_to_say(
    model: HimtokForConditionalGeneration, batches: ConversationBatches, computed: Computed
) -> None:
    branches = [branch for branch in computed.branches if not branch.runs + branch.shown]
    packed = packed_of(branches, batches, computed.targets)
    said = say_masks(packed, computed.masks[:0], model)
    assert branches and torch.equal(said.ids, packed.ids) and torch.equal(said.wanted, packed.wanted)


# ---- losses ----------------------------------------------------------------------------------------------


def test_words_count_whole_decisions_more_and_mask_tokens_less_and_less(
    model: HimtokForConditionalGeneration, processor: HimtokProcessor, computed: Computed
) -> None:
    vocabulary = processor.tokenizer.get_vocab()
    numbers = torch.tensor([vocabulary[str(n)] for n in range(1001)])
    tags = [vocabulary["<box>"], vocabulary["</box>"]]
    words, weighted, mask_losses, first_losses, coordinates = 0.0, 0.0, [], [], 0
    decisions, end, early = set(), vocabulary["<|mt_end|>"], 0.0
    toward_end = model.lm_head.weight[end].detach()  # an end that nobody expects would hardly count
    last = computed.states.last + 8 * toward_end / (toward_end**2).sum()
    states = replace(computed.states, last=last.requires_grad_())
    loss, shown = token_losses(model, states, computed.packed, numbers, mask_token_weight=0.5)
    loss.backward()
    model.zero_grad()
    with torch.no_grad():
        for row, branch in enumerate(computed.branches):
            logs = model.lm_head(computed.of_branch(states.last, row)).log_softmax(-1)
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
                    away = (torch.arange(1001) - value[0]) / NUMBER_SPREAD
                    near = torch.exp(-0.5 * away**2)
                    surprise = -(near / near.sum() @ logs[place - 1, numbers]).item()
                    coordinates += 1
                if place in places:
                    weighted += 0.5 / (1 + places[place] / 8) * surprise
                    if place in asked_for:
                        early -= 4 * torch.log1p(-logs[place - 1, end].exp()).item()
                    mask_losses.append(surprise)
                    first_losses += [surprise] if places[place] == 0 else []
                else:
                    words += surprise
                    if place in branch.decisions:
                        weighted += 3 * surprise
                        decisions.add(place in {start + length for start, length, _ in branch.runs})
    count = len(computed.branches)
    assert decisions == {True, False}, "ends of masks and letters of choices"
    assert coordinates >= 4 and coordinates % 4 == 0 and first_losses
    assert early > 0.01 * (words + weighted)
    assert loss.item() == pytest.approx((words + weighted + early) / (4 * count), rel=1e-4)
    assert shown["words"].item() == pytest.approx(words / count, rel=1e-4)
    assert shown["mask_tokens"].item() == pytest.approx(sum(mask_losses) / len(mask_losses), rel=1e-4)
    first_loss = sum(first_losses) / len(first_losses)
    assert shown["first_mask_token"].item() == pytest.approx(first_loss, rel=1e-4)
    assert not any(part.requires_grad for part in shown.values())
    computed.assert_reached(
        last.grad, [{n - 1 for n, label in enumerate(b.labels) if label != IGNORE} for b in computed.branches]
    )


def test_words_alone_have_no_loss_of_mask_tokens(
    model: HimtokForConditionalGeneration, batches: ConversationBatches, computed: Computed
) -> None:
    packed = without_masks(computed, batches)
    with torch.no_grad():
        loss, shown = token_losses(
            model, computed.states, packed, torch.tensor(batches.writer.numbers), mask_token_weight=0.5
        )
    assert set(shown) == {"words"} and loss.item() > 0


def test_mask_loss_teaches_the_states_before_mask_tokens_only(
    model: HimtokForConditionalGeneration, computed: Computed
) -> None:
    last = computed.states.last.clone().requires_grad_()
    states = replace(computed.states, last=last)
    generator = torch.Generator().manual_seed(0)
    hierarchical_mask_loss(model, states, computed.packed, computed.masks, 100, 2, generator).backward()
    places = [
        {start - 1 + n for start, length, _ in branch.runs if length == 32 for n in range(32)}
        for branch in computed.branches
    ]
    computed.assert_reached(last.grad, places)
    assert not [name for name, p in model.mask_tokenizer.named_parameters() if p.grad is not None]
    model.zero_grad()


def test_mask_loss_measures_what_soft_decoding_draws(
    model: HimtokForConditionalGeneration, computed: Computed
) -> None:
    """The complete masks against their labels, and one prefix of each against its blurred label."""
    tokenizer, config, states = model.mask_tokenizer, model.config, computed.states
    found = []
    with torch.no_grad():
        for number, branch in enumerate(computed.branches):
            for start, length, index in branch.runs:
                if length == 32:
                    logits = model.lm_head(computed.of_branch(states.last, number)[start - 1 : start + 31])
                    logits = logits[:, config.first_mask_id : config.last_mask_id + 1]
                    found.append(((2 * logits).softmax(-1), computed.masks[index]))
        loss = hierarchical_mask_loss(
            model, states, computed.packed, computed.masks, 2, 1, torch.Generator().manual_seed(5)
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
    model: HimtokForConditionalGeneration, batches: ConversationBatches, computed: Computed
) -> None:
    packed = without_masks(computed, batches)
    loss = hierarchical_mask_loss(model, computed.states, packed, computed.masks, 10, 2, torch.Generator())
    assert loss.item() == 0


def test_counting_down_to_the_end_of_a_mask(
    heads: DenseHeads, batches: ConversationBatches, computed: Computed
) -> None:
    """The states that draw token n of N and the one that ends the mask learn that N - n tokens are left."""
    below = computed.states.below.clone().requires_grad_()
    states = replace(computed.states, below=below)
    loss, shown = countdown_loss(heads, states, computed.packed)
    loss.backward()
    heads.zero_grad()
    losses, right, places = [], [], []
    for number, branch in enumerate(computed.branches):
        places.append(set())
        for start, length, _ in branch.runs:
            places[-1].update(range(start - 1, start + length))
            with torch.no_grad():
                drawing = computed.of_branch(below, number)[start - 1 : start + length]
                logs = heads.left(drawing).log_softmax(-1)
            for n in range(length + 1):
                losses.append(-logs[n, length - n].item())
                right.append(logs[n].argmax().item() == length - n)
    computed.assert_reached(below.grad, places)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert shown["left"].item() == pytest.approx(sum(right) / len(right), abs=1e-6)
    assert countdown_loss(heads, computed.states, without_masks(computed, batches)) == (0, {})


def test_looking_counts_the_words_of_answers_about_objects(
    heads: DenseHeads, batches: ConversationBatches, computed: Computed
) -> None:
    """Every state by itself: the part of its attention on the right patches, and the box around them."""
    targets = computed.targets
    halfway, below = (x.clone().requires_grad_() for x in (computed.states.halfway, computed.states.below))
    states = replace(computed.states, halfway=halfway, below=below)
    loss, shown = looking_loss(heads, states, computed.visual, targets, computed.packed)
    loss.backward()
    heads.zero_grad()
    looks, hits, distances, places = [], [], [], []
    for number, branch in enumerate(computed.branches):
        places.append({n - 1 for start, end, _ in branch.looks for n in range(start, end)})
        owner = targets.owner[branch.scene]
        for start, end, objects in branch.looks:
            chosen = targets.boxes[list(objects)]
            box = torch.cat([chosen[:, :2].amin(0), chosen[:, 2:].amax(0)])
            patches = torch.isin(owner, torch.tensor(objects))
            counted = (owner != -2) | patches
            assert patches.any(), "all objects of this batch have patches"
            with torch.no_grad():
                looking = heads.look(computed.of_branch(halfway, number)[start - 1 : end - 1])
                scores = (looking @ computed.visual[branch.scene].T / 192**0.5)[:, counted]
                looks += (-scores.softmax(1)[:, patches[counted]].sum(1).log()).tolist()
                hits += patches[counted][scores.argmax(1)].tolist()
                said = heads.answer_box(computed.of_branch(below, number)[start - 1 : end - 1]).sigmoid()
                distances += (said - box).abs().mean(1).tolist()
    for depth in (halfway, below):
        computed.assert_reached(depth.grad, places)
    look, hit, distance = (sum(values) / len(values) for values in (looks, hits, distances))
    assert loss.item() == pytest.approx(look + 5 * distance, rel=1e-4)
    assert shown["looks"].item() == pytest.approx(hit, abs=1e-6)
    assert shown["answer_box_l1"].item() == pytest.approx(distance, rel=1e-4)
    assert not any(part.requires_grad for part in shown.values())
    nothing = replace(targets, owner=torch.full_like(targets.owner, -1))
    packed = packed_of(computed.branches, batches, nothing)
    assert looking_loss(heads, states, computed.visual, nothing, packed) == (0, {})


def test_the_box_of_an_answer_goes_around_all_its_objects(
    heads: DenseHeads, batches: ConversationBatches, computed: Computed
) -> None:
    targets = computed.targets
    branch = Branch(0, [0] * 8, [0] * 8, [], [], [(2, 4, (0, 1))], [])
    packed = packed_of([branch], batches, targets)
    ones = torch.zeros(*packed.ids.shape, 192)
    assert (targets.owner[0] == 1).any()
    heads = copy.deepcopy(heads)
    torch.nn.init.zeros_(heads.answer_box.weight)
    x0, y0 = targets.boxes[:2, :2].amin(0)
    x1, y1 = targets.boxes[:2, 2:].amax(0)
    heads.answer_box.bias.data = torch.logit(torch.stack([x0, y0, x1, y1]), eps=1e-6)
    _, shown = looking_loss(heads, States(ones, ones, ones), computed.visual, targets, packed)
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
