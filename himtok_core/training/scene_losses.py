"""What the language model learns from conversations about scenes: next tokens, where to look, what to draw.

Knows hidden states and losses. Which states say what is `packing`'s work, the loop is `scene_lmm`'s.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..data.mask_questions import MAX_TOKENS
from ..lmm import HimtokForConditionalGeneration
from .branches import NUMBER_SPREAD
from .dense import DenseHeads
from .losses import grained_labels, mask_loss, sample_levels
from .packing import DECISION_WEIGHT, Packed
from .scene_batches import DenseTargets


@dataclass(frozen=True)
class States:
    """What the language model made of a batch of conversations: hidden states (B, T, D).

    Attributes:
        last: those that what is said is read from. halfway: halfway up. below: below the last layer.
    """

    last: torch.Tensor
    halfway: torch.Tensor
    below: torch.Tensor


@torch.no_grad()
def say_masks(
    packed: Packed, masks: torch.Tensor, model: HimtokForConditionalGeneration
) -> Packed:
    """The conversations with the tokens of the masks (M, S, S) that they refer to."""
    if not len(masks):
        return packed
    return packed.with_tokens(model.config.first_mask_id + model.mask_tokenizer.encode(masks))


def hidden_states(
    model: HimtokForConditionalGeneration, visual: torch.Tensor, packed: Packed
) -> States:
    """Run the conversations of a batch, those about one picture as one sequence: a picture is computed once.

    Args:
        visual: (B, P, D) visual tokens.
    """
    language = model.model.language_model
    embeds = language.embed_tokens(packed.ids)
    pictured = packed.ids == model.config.image_token_id
    embeds = embeds.masked_scatter(pictured[..., None], visual.to(embeds.dtype))
    owner = packed.owner
    seen = (owner[:, :, None] == owner[:, None]) | (owner[:, None] == -1)  # (B, T, T)
    out = language(
        inputs_embeds=embeds,
        attention_mask=seen.tril()[:, None],
        position_ids=packed.positions,
        output_hidden_states=True,
        use_cache=False,
    )
    depths = out.hidden_states
    return States(out.last_hidden_state, depths[len(language.layers) // 2], depths[-2])


def token_losses(
    model: HimtokForConditionalGeneration,
    states: States,
    packed: Packed,
    numbers: torch.Tensor,
    mask_token_weight: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Next-token loss: the words' and numbers' sum over the conversations, plus the mask tokens'.

    Coarse tokens count more than fine ones: the weight of a run's token n is 1 / (1 + n / 8). A coordinate's
    label is spread over its neighbours, since a box that is one pixel off is hardly wrong. Where a number of
    mask tokens was asked for, not to end too early counts as much as to end in time.

    Args:
        numbers: int64 (1001,), the token ids of the numbers 0 to 1000.
    """
    weights = packed.weights.clone()
    place, _, number = packed.drawn
    weights[place] = mask_token_weight / (1 + number / 8)
    logits = model.lm_head(states.last[packed.said[0], packed.said[1]])
    loss = F.cross_entropy(logits, packed.wanted, reduction="none")
    at, value = packed.coordinates
    scale = torch.arange(len(numbers), device=value.device)
    spread = (-0.5 * ((scale - value[:, None]) / NUMBER_SPREAD) ** 2).softmax(-1)
    logs = logits[at].log_softmax(-1)[:, numbers]
    loss = loss.index_put((at,), -(spread * logs).sum(-1))
    ends = logits[packed.bounded].softmax(-1)[:, model.config.mask_end_id]
    too_early = -torch.log1p(-ends.clamp(max=1 - 1e-6)).sum()
    with torch.no_grad():
        of_masks = loss[place]
        shown = {"words": (loss.sum() - of_masks.sum()) / packed.conversations}
        if len(place):
            first = of_masks[number == 0].mean()
            shown |= {"mask_tokens": of_masks.mean(), "first_mask_token": first}
    total = (loss * weights).sum() + DECISION_WEIGHT * too_early
    return total / (4 * packed.conversations), shown


def looking_loss(
    heads: DenseHeads, states: States, visual: torch.Tensor, targets: DenseTargets, packed: Packed
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """While it answers, the model should look at what it talks about and know where that ends.

    `DenseHeads.looking` on the states halfway up, over all answers; and the box around the objects, read off
    the states below the last layer.

    Args:
        visual: (B, P, D) visual tokens. targets: what the patches show.
    """
    row, column, look = packed.looks
    if not len(row):
        return visual.new_zeros(()), {}
    wanted, boxes = packed.look_patches[look], packed.look_boxes[look]
    looking, right = heads.looking(states.halfway, visual, row, column, targets.owner, wanted)
    distance = F.l1_loss(heads.answer_box(states.below[row, column]).sigmoid(), boxes)
    return looking + 5 * distance, {"looks": right, "answer_box_l1": distance.detach()}


def countdown_loss(
    heads: DenseHeads, states: States, packed: Packed
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """While it draws, the model should know how many mask tokens are left, however many were asked for.

    Cross-entropy on the states below the last layer; without it the one token that ends a mask is all that
    teaches to keep a number.
    """
    row, column, left = packed.left
    if not len(row):
        return states.below.new_zeros(()), {}
    scores = heads.left(states.below[row, column])
    return F.cross_entropy(scores, left), {"left": (scores.argmax(1) == left).float().mean()}


def hierarchical_mask_loss(
    model: HimtokForConditionalGeneration,
    states: States,
    packed: Packed,
    masks: torch.Tensor,
    most: int,
    levels: int,
    generator: torch.Generator,
    grained: bool = True,
) -> torch.Tensor:
    """The paper's loss on de-tokenised masks: all 32 tokens, and random prefixes against blurred labels.

    Args:
        masks: (M, S, S) that the conversations refer to. most: masks to draw, chosen at random.
        levels: random prefixes of each. generator: chooses the masks and the prefixes.
        grained: whether the labels of prefixes are blurred; otherwise they are as sharp as the mask.
    """
    found = packed.complete.shape[1]
    if not found:
        return masks.new_zeros(())
    chosen = torch.randperm(found, generator=generator)[:most].to(masks.device)
    row, column, index = packed.complete[:, chosen]
    column = column[:, None] + torch.arange(MAX_TOKENS, device=masks.device)
    said = states.last[row[:, None], column]  # (m, 32, D)
    target = masks[index]
    rows = model.lm_head.weight[model.config.first_mask_id : model.config.last_mask_id + 1]
    probabilities = (2 * said @ rows.T).softmax(-1)  # the sharpening that decoding uses
    codes = model.mask_tokenizer.quantize.expectation(probabilities)
    drawn = sample_levels(generator, len(index) * levels).to(masks.device)
    lengths = torch.cat([torch.full((len(index),), MAX_TOKENS, device=masks.device), drawn])
    target = target.repeat(1 + levels, 1, 1)
    if grained:
        target = grained_labels(target, lengths)
    logits = model.mask_tokenizer.draw_logits(codes.repeat(1 + levels, 1, 1), lengths)
    return mask_loss(logits.float(), target, dice_weight=0.25)
