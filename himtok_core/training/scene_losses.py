"""What the language model learns from conversations about scenes: next tokens, where to look, what to draw.

Knows hidden states, labels, and what of an answer may be read while its rest is learned; scenes and questions
come from `scene_batches`, the loop is `scene_lmm`'s. A picture and the words before the first question are
computed once, and the conversations about it branch off from that key-value cache.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from ..data.mask_questions import MAX_TOKENS
from ..lmm import HimtokForConditionalGeneration
from .dense import DenseHeads
from .losses import grained_labels, mask_loss, sample_levels
from .scene_batches import IGNORE, Branch, DenseTargets

DECISION_WEIGHT = 4.0  # of a token that alone is the answer: see `Branch.decisions`
NUMBER_SPREAD = 15.0  # how far a coordinate may be off, in thousandths of the picture's side
# Conversations of about the same length are computed together: the shorter half, then most, then the rest.
# More groups would pad less, but a GPU is quick with padding and slow to begin anew.
GROUPS = (0.5, 0.85, 1.0)
READING = 0.4  # share of the conversations that go on after a mask in which that mask can be read


@torch.no_grad()
def say_masks(
    branches: list[Branch], masks: torch.Tensor, model: HimtokForConditionalGeneration
) -> None:
    """Fills in, in place, the tokens of the masks (M, S, S) that the conversations refer to."""
    if len(masks):
        tokens = (model.config.first_mask_id + model.mask_tokenizer.encode(masks)).tolist()
        for branch in branches:
            branch.say(tokens)


def forget_answers(
    branches: list[Branch], mask_ids: range, numbers: torch.Tensor, rng: np.random.Generator
) -> None:
    """Replaces, in place, what the answers' later tokens could read of the truth.

    A mask's tokens become random ones: from true ones the model learns to draw the end of a mask from its
    beginning instead of from the picture, and its own beginning, which it reads when it answers, tells it
    nothing that the picture does not. What comes after a mask should read it, though: which thing has been
    drawn, so which is next, or what "it" is. Therefore some of the conversations that go on after a mask keep
    its tokens, and nothing is learned of drawing from those: their runs and labels of mask tokens are gone.

    Coordinates are moved as far as they may be off, so that the model has met every way in which it may begin
    a box: one that begins with 1 does not go on as a count.

    Args:
        mask_ids: of the vocabulary. numbers: int64 (1003,), as for `token_losses`.
    """
    *numbers, box_start, box_end = numbers.tolist()
    values = {token: value for value, token in enumerate(numbers)}
    for branch in branches:
        if _goes_on(branch) and rng.random() < READING:
            for start, length, _ in branch.runs:
                branch.labels[start : start + length] = [IGNORE] * length
            branch.runs.clear()
        for start, length, _ in branch.runs:
            branch.ids[start : start + length] = rng.integers(mask_ids[0], mask_ids[-1] + 1, length).tolist()
        for place in _inside_boxes(np.array(branch.labels), box_start, box_end).nonzero()[0]:
            if (value := values.get(branch.labels[place])) is not None:
                moved = round(rng.normal(value, NUMBER_SPREAD))
                branch.ids[place] = numbers[min(max(moved, 0), len(numbers) - 1)]


def _goes_on(branch: Branch) -> bool:
    """Whether another mask or another turn comes after the first mask that was drawn."""
    if not branch.runs:
        return False
    start, length, _ = branch.runs[0]
    return len(branch.runs) > 1 or IGNORE in branch.labels[start + length :]


def _inside_boxes(labels: np.ndarray, box_start: int, box_end: int) -> np.ndarray:
    return (labels == box_start).cumsum(-1) > (labels == box_end).cumsum(-1)


def _at(states: torch.Tensor, rows: list[int], places: list[int]) -> torch.Tensor:
    """Of states (b, T, D) those of some rows and places: (N, D)."""
    index = torch.tensor([rows, places], dtype=torch.int64).to(states.device)
    return states[index[0], index[1]]


def _moved(parts: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Joined along the first axis and sent to a device at once: a GPU waits for every single transfer."""
    return torch.from_numpy(np.concatenate(parts)).to(device)


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    """int64 (rows, longest row)."""
    return np.array(list(itertools.zip_longest(*rows, fillvalue=fill)), dtype=np.int64).T.copy()


def branch_hidden_states(
    model: HimtokForConditionalGeneration, visual: torch.Tensor, prefix_ids: list[int], branches: list[Branch]
) -> list[tuple[list[Branch], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Run the conversations of a batch, each on the cache of its own picture.

    Args:
        visual: (B, P, D) visual tokens. prefix_ids: what comes before every first question.

    Returns:
        Groups of branches of about the same length with their hidden states (b, T, D): the last, those
        halfway up, and those below the last layer.
    """
    language, device = model.model.language_model, visual.device
    ids = torch.tensor(prefix_ids, device=device)
    embeds = language.embed_tokens(ids).expand(len(visual), -1, -1)
    places = (ids == model.config.image_token_id)[None, :, None]
    embeds = embeds.masked_scatter(places, visual.to(embeds.dtype))
    shared = language(inputs_embeds=embeds, use_cache=True, past_key_values=DynamicCache()).past_key_values
    ordered = sorted(branches, key=lambda branch: len(branch.ids))
    ends = [round(part * len(ordered)) for part in (0, *GROUPS)]
    groups = []
    for first, end in itertools.pairwise(ends):
        if not (group := ordered[first:end]):
            continue
        lengths = np.array([len(branch.ids) for branch in group])
        ids = torch.from_numpy(_padded([branch.ids for branch in group], 0))
        places = np.arange(len(prefix_ids) + lengths.max())
        mask = torch.from_numpy((places < len(prefix_ids) + lengths[:, None]).astype(np.int64))
        scenes = torch.tensor([branch.scene for branch in group], device=device)
        cache = DynamicCache()
        for index, layer in enumerate(shared.layers):
            cache.update(layer.keys[scenes], layer.values[scenes], index)
        out = language(
            inputs_embeds=language.embed_tokens(ids.to(device)),
            attention_mask=mask.to(device),
            past_key_values=cache,
            output_hidden_states=True,
        )
        depths = out.hidden_states
        groups.append((group, out.last_hidden_state, depths[len(language.layers) // 2], depths[-2]))
    return groups


def token_losses(
    model: HimtokForConditionalGeneration, groups: list, numbers: torch.Tensor, mask_token_weight: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Next-token loss: the words' and numbers' sum over the conversations, plus the mask tokens'.

    Coarse tokens count more than fine ones: the weight of a run's token n is 1 / (1 + n / 8). A coordinate's
    label is spread over its neighbours, since a box that is one pixel off is hardly wrong. Where a number of
    mask tokens was asked for, not to end too early counts as much as to end in time.

    Args:
        numbers: int64 (1003,), the token ids of the numbers 0 to 1000, of `<box>` and of `</box>`.
    """
    numbers, box_start, box_end = numbers[:-2], numbers[-2].item(), numbers[-1].item()
    config = model.config
    hidden, wanted, weights, inside_box, counted = [], [], [], [], []
    coarse_to_fine = (mask_token_weight / (1 + np.arange(MAX_TOKENS) / 8)).astype(np.float32)
    for group, states, _, _ in groups:
        labels = _padded([branch.labels for branch in group], IGNORE)
        weight = np.ones(labels.shape, np.float32)
        going_on = np.zeros(labels.shape, bool)
        for row, branch in enumerate(group):
            for start, length, _ in branch.runs:
                weight[row, start : start + length] = coarse_to_fine[:length]
                going_on[row, start : start + length] = start + length in branch.decisions
            weight[row, branch.decisions] = DECISION_WEIGHT
        spoken = (labels != IGNORE).nonzero()  # never the first place of a branch
        wanted.append(labels[spoken])
        weights.append(weight[spoken])
        inside_box.append(_inside_boxes(labels, box_start, box_end)[spoken])
        counted.append(going_on[spoken])
        rows, places = _moved([np.stack(spoken)], states.device)
        hidden.append(states[rows, places - 1])  # the states that what the model says is read from
    hidden = torch.cat(hidden)
    parts = wanted, weights, inside_box, counted
    wanted, weights, inside_box, counted = (_moved(part, hidden.device) for part in parts)
    logits = model.lm_head(hidden)
    loss = F.cross_entropy(logits, wanted, reduction="none")
    coordinates = (wanted[:, None] == numbers) & inside_box[:, None]
    place, value = coordinates.nonzero(as_tuple=True)
    if len(place):
        scale = torch.arange(len(numbers), device=value.device)
        spread = (-0.5 * ((scale - value[:, None]) / NUMBER_SPREAD) ** 2).softmax(-1)
        logs = logits[place].log_softmax(-1)[:, numbers]
        loss = loss.index_put((place,), -(spread * logs).sum(-1))
    masks = (wanted >= config.first_mask_id) & (wanted <= config.last_mask_id)
    conversations = sum(len(group) for group, _, _, _ in groups)
    shown = {"words": loss[~masks].sum().item() / conversations}
    if masks.any():
        first = masks & ~masks.roll(1)
        shown |= {"mask_tokens": loss[masks].mean().item(), "first_mask_token": loss[first].mean().item()}
    ends = logits[counted].softmax(-1)[:, config.mask_end_id]
    too_early = -torch.log1p(-ends.clamp(max=1 - 1e-6)).sum()
    return ((loss * weights).sum() + DECISION_WEIGHT * too_early) / (4 * conversations), shown


def looking_loss(
    heads: DenseHeads, groups: list, visual: torch.Tensor, targets: DenseTargets
) -> tuple[torch.Tensor, dict[str, float]]:
    """While it answers, the model should look at what it talks about and know where that ends.

    `DenseHeads.looking` on the states halfway up, over all answers; and the box around the objects, read off
    the states below the last layer.

    Args:
        visual: (B, P, D) visual tokens. targets: what the patches show, on the processor.
    """
    device = visual.device
    owner, around = targets.owner.numpy(), targets.boxes.numpy()
    seen = np.zeros(len(around) + 2, bool)  # by object; the last two are the background and what is unclear
    seen[owner] = True
    states, later, scenes, wanted, boxes, lengths = [], [], [], [], [], []
    for group, _, halfway, below in groups:
        rows, before = [], []
        for row, branch in enumerate(group):
            for start, end, objects in branch.looks:
                objects = list(objects)
                if seen[objects].any():
                    rows += [row] * (end - start)
                    before += range(start - 1, end - 1)
                    lengths.append(end - start)
                    scenes.append(branch.scene)
                    wanted.append(np.logical_or.reduce(owner[branch.scene] == np.array(objects)[:, None]))
                    chosen = around[objects]
                    boxes.append([*chosen[:, :2].min(0), *chosen[:, 2:].max(0)])
        states.append(_at(halfway, rows, before))
        later.append(_at(below, rows, before))
    if not lengths:
        return visual.new_zeros(()), {}
    each = torch.arange(len(lengths), device=device)
    each = each.repeat_interleave(torch.tensor(lengths, device=device), output_size=sum(lengths))
    scenes = torch.tensor(scenes, device=device)[each]
    wanted = _moved([np.stack(wanted)], device)[each]
    boxes = torch.tensor(np.array(boxes), device=device)[each]
    owners = targets.owner.to(device)[scenes]
    looking, right = heads.looking(torch.cat(states), visual, scenes, owners, wanted)
    distance = F.l1_loss(heads.answer_box(torch.cat(later)).sigmoid(), boxes)
    return looking + 5 * distance, {"looks": right, "answer_box_l1": distance.item()}


def countdown_loss(heads: DenseHeads, groups: list) -> tuple[torch.Tensor, dict[str, float]]:
    """While it draws, the model should know how many mask tokens are left, however many were asked for.

    Cross-entropy on the states below the last layer; without it the one token that ends a mask is all that
    teaches to keep a number.
    """
    states, left = [], []
    for group, _, _, below in groups:
        rows, before = [], []
        for row, branch in enumerate(group):
            for start, length, _ in branch.runs:
                rows += [row] * (length + 1)
                before += range(start - 1, start + length)
                left += range(length, -1, -1)
        states.append(_at(below, rows, before))
    if not left:
        return groups[0][1].new_zeros(()), {}
    states = torch.cat(states)
    scores, wanted = heads.left(states), torch.tensor(left, device=states.device)
    return F.cross_entropy(scores, wanted), {"left": (scores.argmax(1) == wanted).float().mean().item()}


def hierarchical_mask_loss(
    model: HimtokForConditionalGeneration,
    groups: list,
    masks: torch.Tensor,
    most: int,
    levels: int,
    generator: torch.Generator,
    grained: bool = True,
) -> torch.Tensor:
    """The paper's loss on de-tokenised masks: all 32 tokens, and random prefixes against blurred labels.

    Args:
        masks: (M, S, S) that `Branch.runs` refers to. most: masks to draw, chosen at random. levels: random
            prefixes of each. generator: chooses the masks and the prefixes.
        grained: whether the labels of prefixes are blurred; otherwise they are as sharp as the mask.
    """
    found = [
        (number, row, start, index)
        for number, (group, *_) in enumerate(groups)
        for row, branch in enumerate(group)
        for start, length, index in branch.runs
        if length == MAX_TOKENS
    ]
    if not found:
        return masks.new_zeros(())
    order = torch.randperm(len(found), generator=generator)[:most].tolist()
    order.sort(key=lambda i: found[i][0])  # as the groups come
    states = []
    for number, (_, last, _, _) in enumerate(groups):
        mine = [found[i] for i in order if found[i][0] == number]
        rows = [row for _, row, _, _ in mine for _ in range(MAX_TOKENS)]
        before = [place for _, _, start, _ in mine for place in range(start - 1, start + MAX_TOKENS - 1)]
        states.append(_at(last, rows, before))
    states = torch.cat(states).unflatten(0, (len(order), MAX_TOKENS))  # (m, 32, D)
    target = masks[[found[i][3] for i in order]]
    rows = model.lm_head.weight[model.config.first_mask_id : model.config.last_mask_id + 1]
    probabilities = (2 * states @ rows.T).softmax(-1)  # the sharpening that decoding uses
    codes = model.mask_tokenizer.quantize.expectation(probabilities)
    drawn = sample_levels(generator, len(order) * levels).to(masks.device)
    lengths = torch.cat([torch.full((len(order),), 32, device=masks.device), drawn])
    target = target.repeat(1 + levels, 1, 1)
    if grained:
        target = grained_labels(target, lengths)
    logits = model.mask_tokenizer.draw_logits(codes.repeat(1 + levels, 1, 1), lengths)
    return mask_loss(logits.float(), target, dice_weight=0.25)
