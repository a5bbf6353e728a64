"""Many questions at once, each about its own picture: one forward pass a token for all of them.

For evaluation, where nobody watches a single reply grow. Greedy; masks are constrained and drawn as in a
conversation. A batch's seconds belong to none of its replies, so these carry no timing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from ..errors import GenerationError
from ..reply import Prompt, Reply
from .local import LocalModel
from .memory import readable_memory_errors
from .replies import ReplyBuilder
from .text import TextStream
from .transcript import Transcript


@dataclass(frozen=True, eq=False)
class Asked:
    """One question of a batch.

    prompt: the question. ids: its conversation up to where the answer begins. features: (N, hidden size), one
    row for every place of the picture in `ids`. size: (width, height) of the picture.
    """

    prompt: Prompt
    ids: list[int]
    features: torch.Tensor
    size: tuple[int, int]


@torch.no_grad()
def answer_batch(
    local: LocalModel, asked: Sequence[Asked], max_new_tokens: int
) -> list[tuple[Reply, list[int]]]:
    """Answers every question, in order -> replies, each with its ids but for the one that ends it.

    Raises GenerationError if one with its answer would not fit the positions that the model was trained for,
    or memory runs out.
    """
    longest = max(len(item.ids) for item in asked)
    room = local.model.config.get_text_config().max_position_embeddings - longest
    if room < 1:
        raise GenerationError(f"A question of {longest} tokens leaves the model no room for an answer.")
    rows = [Transcript(local.mask_ids, item.prompt.mask_tokens) for item in asked]
    doing = f"answering {len(asked)} questions at once"
    with readable_memory_errors(doing):
        hidden, cache, mask = _read(local, asked, longest)
        for count in range(min(max_new_tokens, room)):
            tokens = _choose(local, rows, hidden)
            if all(row.ended for row in rows):
                break
            if count + 1 < min(max_new_tokens, room):
                mask = torch.nn.functional.pad(mask, (0, 1), value=1)
                hidden = _step(local, tokens, cache, mask)
    answers = []
    for row, item in zip(rows, asked, strict=True):
        limit = "length" if max_new_tokens <= room else "context"
        answers.append((_reply(local, row, item, row.ended or limit, max_new_tokens), row.ids))
    return answers


def _read(
    local: LocalModel, asked: Sequence[Asked], longest: int
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """-> last hidden states (B, D), the cache, and int64 (B, longest), 0 where a shorter prompt is padded.

    Padding stands on the left, so that every answer goes on at the same place.
    """
    ids = torch.zeros(len(asked), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(asked):
        ids[row, longest - len(item.ids) :] = torch.tensor(item.ids)
        mask[row, longest - len(item.ids) :] = 1
    ids, mask = ids.to(local.device), mask.to(local.device)
    with local.lock:
        embeddings = local.model.get_input_embeddings()(ids)  # (B, T, D)
        places = (ids == local.model.config.image_token_id) & (mask == 1)
        features = torch.cat([item.features for item in asked])
        embeddings[places.to(embeddings.device)] = features.to(embeddings)
        cache = DynamicCache()
        states = local.model.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
    return states[:, -1], cache, mask


def _step(local: LocalModel, tokens: list[int], cache: DynamicCache, mask: torch.Tensor) -> torch.Tensor:
    """One token (B,) more; mask: int64 (B, T) with its place -> last hidden states (B, D)."""
    ids = torch.tensor(tokens, device=local.device)[:, None]
    with local.lock:
        return local.model.model.language_model(
            inputs_embeds=local.model.get_input_embeddings()(ids),
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]


def _choose(local: LocalModel, rows: Sequence[Transcript], hidden: torch.Tensor) -> list[int]:
    """The next token of every reply, noted in its transcript; those that have ended get any."""
    ids = local.mask_ids
    with local.lock:
        logits = local.model.lm_head(hidden).float()  # (B, V)
    masks = logits[:, ids.first : ids.first + ids.count]
    probabilities = (2 * masks).softmax(-1)
    best_mask = masks.argmax(1) + ids.first
    end_is_better = logits[:, ids.end] > masks.amax(1)
    best_word = logits.masked_fill(local.never.to(logits.device), -torch.inf).argmax(1)
    # One synchronisation a token for the whole batch.
    words, mask_tokens, ends = torch.stack([best_word, best_mask, end_is_better.long()]).tolist()
    tokens = []
    for row, transcript in enumerate(rows):
        grammar = transcript.grammar
        token, chosen_from = words[row], None
        if grammar.must_end or (grammar.may_end and ends[row]):
            token = ids.end
        elif grammar.inside:
            token, chosen_from = mask_tokens[row], probabilities[row]
        tokens.append(token)
        if transcript.ended is None:
            if token in local.end_ids and not grammar.inside:
                transcript.ended = "end"
            else:
                transcript.add(token, chosen_from)
    return tokens


def _reply(local: LocalModel, row: Transcript, item: Asked, ended: str, max_new_tokens: int) -> Reply:
    text = TextStream(local.processor.tokenizer)
    builder = ReplyBuilder(local.draw, item.prompt, item.size)
    for token in row.ids:
        builder.add(text.feed(token))
    builder.add(text.close())
    return builder.final(row.runs, ended, max_new_tokens)
