"""What the language model learns from conversations about scenes: next tokens, where to look, what to draw.

Knows hidden states, labels, and what of an answer may be read while its rest is learned; scenes and questions
come from `scene_batches`, the loop is `scene_lmm`'s. All conversations about a picture lie one after another
in a sequence that begins with the picture; each sees that and itself.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..data.mask_questions import MAX_TOKENS
from ..lmm import HimtokForConditionalGeneration
from .dense import DenseHeads
from .losses import grained_labels, mask_loss, sample_levels
from .scene_batches import IGNORE, Branch, DenseTargets

DECISION_WEIGHT = 4.0  # of a token that alone is the answer: see `Branch.decisions`
NUMBER_SPREAD = 15.0  # how far a coordinate may be off, in thousandths of the picture's side
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


def _padded(rows: list[list[int]], fill: int) -> np.ndarray:
    """int64 (rows, longest row)."""
    return np.array(list(itertools.zip_longest(*rows, fillvalue=fill)), dtype=np.int64).T.copy()


@dataclass(frozen=True)
class States:
    """What the language model made of a batch of conversations.

    Attributes:
        branches: the conversations. starts: int64, where in its picture's sequence each of them begins.
        last, halfway, below: hidden states (B, T, D) of the pictures' sequences: the last, those halfway up,
            and those below the last layer.
    """

    branches: list[Branch]
    starts: np.ndarray
    last: torch.Tensor
    halfway: torch.Tensor
    below: torch.Tensor

    def at(self, depth: torch.Tensor, numbers: Sequence[int], places: Sequence[int]) -> torch.Tensor:
        """Of one of the depths the states at certain places of certain conversations.

        Args:
            depth: (B, T, D). numbers: of the conversations, N of them. places: one in each.

        Returns:
            (N, D).
        """
        scenes = np.array([branch.scene for branch in self.branches])
        index = np.stack([scenes[numbers], self.starts[numbers] + places])
        rows, columns = torch.from_numpy(index).to(depth.device)
        return depth[rows, columns]


def branch_hidden_states(
    model: HimtokForConditionalGeneration, visual: torch.Tensor, prefix_ids: list[int], branches: list[Branch]
) -> States:
    """Run the conversations of a batch, those about one picture as one sequence: a picture is computed once.

    Args:
        visual: (B, P, D) visual tokens. prefix_ids: what comes before every first question.
    """
    language, device, begin = model.model.language_model, visual.device, len(prefix_ids)
    rows: list[list[int]] = [list(prefix_ids) for _ in range(len(visual))]
    places: list[list[int]] = [list(range(begin)) for _ in range(len(visual))]
    owners: list[list[int]] = [[-1] * begin for _ in range(len(visual))]  # of each token: a branch, or -1
    starts = np.zeros(len(branches), np.int64)
    for number, branch in enumerate(branches):
        starts[number] = len(rows[branch.scene])
        rows[branch.scene] += branch.ids
        places[branch.scene] += range(begin, begin + len(branch.ids))
        owners[branch.scene] += [number] * len(branch.ids)
    ids, positions, owner = (
        torch.from_numpy(_padded(x, fill)).to(device) for x, fill in ((rows, 0), (places, 0), (owners, -2))
    )
    embeds = language.embed_tokens(ids)
    pictured = torch.zeros_like(ids, dtype=torch.bool)
    pictured[:, :begin] = torch.tensor(prefix_ids, device=device) == model.config.image_token_id
    embeds = embeds.masked_scatter(pictured[..., None], visual.to(embeds.dtype))
    seen = (owner[:, :, None] == owner[:, None]) | (owner[:, None] == -1)  # (B, T, T)
    out = language(
        inputs_embeds=embeds,
        attention_mask=seen.tril()[:, None],
        position_ids=positions,
        output_hidden_states=True,
        use_cache=False,
    )
    depths = out.hidden_states
    return States(branches, starts, out.last_hidden_state, depths[len(language.layers) // 2], depths[-2])


def token_losses(
    model: HimtokForConditionalGeneration, states: States, numbers: torch.Tensor, mask_token_weight: float
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
    coarse_to_fine = (mask_token_weight / (1 + np.arange(MAX_TOKENS) / 8)).astype(np.float32)
    labels = _padded([branch.labels for branch in states.branches], IGNORE)
    weight = np.ones(labels.shape, np.float32)
    going_on = np.zeros(labels.shape, bool)
    for row, branch in enumerate(states.branches):
        for start, length, _ in branch.runs:
            weight[row, start : start + length] = coarse_to_fine[:length]
            going_on[row, start : start + length] = start + length in branch.decisions
        weight[row, branch.decisions] = DECISION_WEIGHT
    spoken = (labels != IGNORE).nonzero()  # never the first place of a branch
    parts = labels, weight, _inside_boxes(labels, box_start, box_end), going_on
    device = states.last.device
    wanted, weights, inside_box, counted = (torch.from_numpy(part[spoken]).to(device) for part in parts)
    hidden = states.at(states.last, spoken[0], spoken[1] - 1)  # what the model says is read from these
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
    conversations = len(states.branches)
    shown = {"words": loss[~masks].sum().item() / conversations}
    if masks.any():
        first = masks & ~masks.roll(1)
        shown |= {"mask_tokens": loss[masks].mean().item(), "first_mask_token": loss[first].mean().item()}
    ends = logits[counted].softmax(-1)[:, config.mask_end_id]
    too_early = -torch.log1p(-ends.clamp(max=1 - 1e-6)).sum()
    return ((loss * weights).sum() + DECISION_WEIGHT * too_early) / (4 * conversations), shown


def looking_loss(
    heads: DenseHeads, states: States, visual: torch.Tensor, targets: DenseTargets
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
    numbers, before, scenes, wanted, boxes, lengths = [], [], [], [], [], []
    for number, branch in enumerate(states.branches):
        for start, end, objects in branch.looks:
            objects = list(objects)
            if seen[objects].any():
                numbers += [number] * (end - start)
                before += range(start - 1, end - 1)
                lengths.append(end - start)
                scenes.append(branch.scene)
                wanted.append(np.logical_or.reduce(owner[branch.scene] == np.array(objects)[:, None]))
                chosen = around[objects]
                boxes.append([*chosen[:, :2].min(0), *chosen[:, 2:].max(0)])
    if not lengths:
        return visual.new_zeros(()), {}
    each = torch.arange(len(lengths), device=device)
    each = each.repeat_interleave(torch.tensor(lengths, device=device), output_size=sum(lengths))
    scenes = torch.tensor(scenes, device=device)[each]
    wanted = torch.from_numpy(np.stack(wanted)).to(device)[each]
    boxes = torch.tensor(np.array(boxes), device=device)[each]
    owners = targets.owner.to(device)[scenes]
    halfway, below = (states.at(depth, numbers, before) for depth in (states.halfway, states.below))
    looking, right = heads.looking(halfway, visual, scenes, owners, wanted)
    distance = F.l1_loss(heads.answer_box(below).sigmoid(), boxes)
    return looking + 5 * distance, {"looks": right, "answer_box_l1": distance.item()}


def countdown_loss(heads: DenseHeads, states: States) -> tuple[torch.Tensor, dict[str, float]]:
    """While it draws, the model should know how many mask tokens are left, however many were asked for.

    Cross-entropy on the states below the last layer; without it the one token that ends a mask is all that
    teaches to keep a number.
    """
    numbers, before, left = [], [], []
    for number, branch in enumerate(states.branches):
        for start, length, _ in branch.runs:
            numbers += [number] * (length + 1)
            before += range(start - 1, start + length)
            left += range(length, -1, -1)
    if not left:
        return states.below.new_zeros(()), {}
    scores = heads.left(states.at(states.below, numbers, before))
    wanted = torch.tensor(left, device=scores.device)
    return F.cross_entropy(scores, wanted), {"left": (scores.argmax(1) == wanted).float().mean().item()}


def hierarchical_mask_loss(
    model: HimtokForConditionalGeneration,
    states: States,
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
        (number, start, index)
        for number, branch in enumerate(states.branches)
        for start, length, index in branch.runs
        if length == MAX_TOKENS
    ]
    if not found:
        return masks.new_zeros(())
    chosen = [found[i] for i in torch.randperm(len(found), generator=generator)[:most]]
    numbers = [number for number, _, _ in chosen for _ in range(MAX_TOKENS)]
    before = [start - 1 + n for _, start, _ in chosen for n in range(MAX_TOKENS)]
    said = states.at(states.last, numbers, before).unflatten(0, (len(chosen), MAX_TOKENS))  # (m, 32, D)
    target = masks[[index for _, _, index in chosen]]
    rows = model.lm_head.weight[model.config.first_mask_id : model.config.last_mask_id + 1]
    probabilities = (2 * said @ rows.T).softmax(-1)  # the sharpening that decoding uses
    codes = model.mask_tokenizer.quantize.expectation(probabilities)
    drawn = sample_levels(generator, len(chosen) * levels).to(masks.device)
    lengths = torch.cat([torch.full((len(chosen),), 32, device=masks.device), drawn])
    target = target.repeat(1 + levels, 1, 1)
    if grained:
        target = grained_labels(target, lengths)
    logits = model.mask_tokenizer.draw_logits(codes.repeat(1 + levels, 1, 1), lengths)
    return mask_loss(logits.float(), target, dice_weight=0.25)
