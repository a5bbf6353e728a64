"""The model on this machine, one token at a time: key-value cache, vocabulary projection, streaming.

Knows ids, features and scores. Which conversation they belong to is `chat`'s matter, what the tokens mean is
`replies`'. One `LocalModel` serves any number of conversations in any number of threads: everything that
belongs to one of them lives in its `Context`, and a lock lets one forward pass run at a time.
"""

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import DynamicCache

from ..errors import GenerationError
from ..lmm import HimtokForConditionalGeneration, HimtokProcessor
from ..lmm.processing import TURN_END
from .constraints import MaskIds
from .masks import draw_runs
from .memory import readable_memory_errors
from .sampling import Sampler, Sampling
from .static import StaticStep
from .transcript import Transcript


class Context:
    """What the model has read of one conversation: token ids and their key-value cache."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.ids: list[int] = []
        self.cache = DynamicCache()
        self.whole = True  # False while a forward pass is adding to the cache, and after one that failed

    def crop(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""
        if not self.whole or length == 0:
            self.reset()
        elif length < len(self.ids):
            self.cache.crop(length - len(self.ids))  # a negative number: how many to remove
            del self.ids[length:]

    def common_prefix(self, ids: Sequence[int]) -> int:
        """How many tokens at the start of `ids` are in the cache already."""
        if not self.whole:
            return 0
        pairs = zip(self.ids, ids, strict=False)
        return next(
            (at for at, (known, wanted) in enumerate(pairs) if known != wanted), min(len(self.ids), len(ids))
        )


class LocalModel:
    """A model and its processor, ready to read and to write tokens.

    limit: positions that a conversation may take. end_ids: tokens that end a reply. mask_ids: where the mask
    tokens lie in the vocabulary. never: bool (vocabulary,), what cannot come outside a mask run. lock: held
    during every forward pass.
    """

    def __init__(self, model: HimtokForConditionalGeneration, processor: HimtokProcessor):
        config, text = model.config, model.config.get_text_config()
        self.model = model.eval()
        self.processor = processor
        self.mask_ids = MaskIds(
            config.mask_start_id,
            config.mask_end_id,
            config.first_mask_id,
            config.mask_tokenizer_config.codebook_size,
        )
        # Dynamic rope scaling is made for going past the trained length, by its factor.
        rope = text.rope_parameters or {}
        self.limit = int(
            text.max_position_embeddings * (rope["factor"] if rope.get("rope_type") == "dynamic" else 1)
        )
        ends = model.generation_config.eos_token_id
        self.end_ids = {processor.tokenizer.convert_tokens_to_ids(TURN_END)}
        self.end_ids.update(ends if isinstance(ends, list) else [ends] if ends is not None else [])
        # Outside a run: no mask token, no end of a run, no place of a picture, no id that spells nothing.
        never = torch.zeros(text.vocab_size, dtype=torch.bool)
        never[self.mask_ids.first : self.mask_ids.first + self.mask_ids.count] = True
        never[[self.mask_ids.end, config.image_token_id]] = True
        never[len(processor.tokenizer) :] = True
        self.never = never
        self.lock = threading.Lock()
        self._static = self._static_step()

    @property
    def device(self) -> torch.device:
        """Where token ids and pictures go in."""
        device = self.model.device
        return (
            torch.device("cpu") if device.type == "meta" else device
        )  # meta: offloaded, hooks move the inputs

    def _static_step(self) -> StaticStep | None:
        language_model = self.model.model.language_model
        return StaticStep(language_model) if StaticStep.suits(language_model) else None

    @torch.no_grad()
    def look(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values: float (tiles, 3, S, S) -> features (tiles x places of a tile, hidden size)."""
        with self.lock, readable_memory_errors("looking at the picture"):
            seen = self.model.get_image_features(pixel_values.to(self.device), return_dict=True)
            return seen.pooler_output.flatten(0, 1)

    def read(self, context: Context, ids: Sequence[int], features: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Brings the cache to `ids`, reading only what it does not hold yet.

        Args:
            ids: the whole prompt. features: (N, hidden size), one row for every place of a picture in `ids`.

        Returns:
            the last hidden state (hidden size,) and how many tokens were in the cache before.

        Raises:
            GenerationError: if the prompt is longer than the model can read, or memory runs out.
        """
        if len(ids) >= self.limit:
            raise GenerationError(
                f"The conversation has grown to {len(ids)} tokens, but the model reads at most {self.limit}. "
                "Start a new conversation or undo a turn."
            )
        self.settle(context)
        if self._static is not None and self._static.moved:
            self._static = self._static_step()
        # The last token is read again if need be: its hidden state is wanted.
        known = min(context.common_prefix(ids), len(ids) - 1)
        context.crop(known)
        return self._forward(context, ids[known:], features), known

    @torch.no_grad()
    def step(self, context: Context, ids: Sequence[int]) -> torch.Tensor:
        """Reads generated tokens -> the last hidden state (hidden size,). After the last step, `settle`."""
        if self._static is None or len(context.ids) + len(ids) > self._static.limit:
            self.settle(context)
            return self._forward(context, ids, None)
        with self.lock, readable_memory_errors(f"reading a token behind {len(context.ids)} others"):
            context.whole = False
            self._static.take(context.cache)
            for token in ids:
                hidden = self._static(token)
            context.ids.extend(ids)
            context.whole = True
            return hidden

    @torch.no_grad()
    def settle(self, context: Context) -> None:
        """Brings what the steps have read into the context's own cache."""
        with self.lock:
            if self._static is None or self._static.taken is not context.cache:
                return
            try:
                with readable_memory_errors("keeping what was read"):
                    if context.whole:
                        self._static.put_back()
            except GenerationError:
                context.reset()  # the answer is there, and the next question reads everything again
            finally:
                self._static.drop()

    @torch.no_grad()
    def _forward(self, context: Context, ids: Sequence[int], features: torch.Tensor | None) -> torch.Tensor:
        doing = f"reading {len(ids)} tokens behind {len(context.ids)} others"
        with self.lock, readable_memory_errors(doing):
            tokens = torch.tensor(ids, device=self.device)
            embeddings = self.model.get_input_embeddings()(tokens)  # (T, D)
            if features is not None:
                places = tokens == self.model.config.image_token_id
                before = context.ids.count(self.model.config.image_token_id)
                rows = features[before : before + int(places.sum())]
                embeddings[places.to(embeddings.device)] = rows.to(embeddings)
            context.whole = False
            hidden = self.model.model.language_model(
                inputs_embeds=embeddings[None], past_key_values=context.cache, use_cache=True
            ).last_hidden_state[0, -1]  # (D,)
            context.ids.extend(ids)
            context.whole = True
            return hidden

    @torch.no_grad()
    def text_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (D,) -> float32 (vocabulary,), -inf for what cannot come outside a mask run."""
        with self.lock, readable_memory_errors("choosing a token"):
            logits = self.model.lm_head(hidden).float()
        self.never = self.never.to(logits.device)
        return logits.masked_fill(self.never, -torch.inf)

    @torch.no_grad()
    def mask_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (D,) -> float32 (K + 1,): the mask tokens, then the end of the run.

        Only their rows of the output head are multiplied, a small part of the vocabulary.
        """
        weight, ids = self.model.lm_head.weight, self.mask_ids
        with self.lock, readable_memory_errors("choosing a token"):
            if (
                weight.device.type == "meta"
            ):  # offloaded: the weights are there only during the head's own call
                logits = self.model.lm_head(hidden)
                return torch.cat(
                    [logits[ids.first : ids.first + ids.count], logits[ids.end : ids.end + 1]]
                ).float()
            hidden = hidden.to(weight.device)
            masks = F.linear(hidden, weight[ids.first : ids.first + ids.count])
            return torch.cat([masks, F.linear(hidden, weight[ids.end : ids.end + 1])]).float()

    def draw(self, runs: Sequence[Sequence[int] | torch.Tensor]) -> list[np.ndarray]:
        """`draw_runs` with this model's mask tokenizer, waiting for its turn."""
        with self.lock, readable_memory_errors(f"drawing {len(runs)} masks"):
            return draw_runs(self.model.mask_tokenizer, runs)


class Generation(Transcript):
    """One reply being generated: iterate over it, once, for its token ids; the end token is not among them.

    prefill, first_token: seconds from the start. cached: tokens of the prompt that were in the cache.
    """

    def __init__(
        self,
        local: LocalModel,
        context: Context,
        prompt: Sequence[int],
        features: torch.Tensor,
        mask_tokens: int | None,
        sampling: Sampling | None,
        max_new_tokens: int,
        stop: threading.Event,
    ):
        super().__init__(local.mask_ids, mask_tokens)
        self._local, self._context, self._prompt, self._features = local, context, prompt, features
        self._sampler = Sampler(sampling)
        self._max_new_tokens, self._stop = max_new_tokens, stop
        self.prefill = self.first_token = 0.0
        self.cached = 0

    def __iter__(self) -> Iterator[int]:
        try:
            yield from self._tokens()
        finally:
            self._local.settle(self._context)

    def _tokens(self) -> Iterator[int]:
        began = time.perf_counter()
        hidden, self.cached = self._local.read(self._context, self._prompt, self._features)
        if hidden.device.type != "cpu":
            torch.accelerator.synchronize(hidden.device)  # once a reply, so that the seconds are true
        self.prefill = time.perf_counter() - began
        unread: list[int] = []  # generated, but not yet in the cache
        while True:
            if self._stop.is_set():
                self.ended = "stopped"
            elif len(self.ids) >= self._max_new_tokens:
                self.ended = "length"
            elif len(self._prompt) + len(self.ids) >= self._local.limit:
                self.ended = "context"
            if self.ended:
                return
            probabilities = None
            if self.grammar.must_end:
                token = self._local.mask_ids.end  # nothing to choose: read together with the token before it
            else:
                if unread:
                    hidden, unread = self._local.step(self._context, unread), []
                token, probabilities = self._choose(hidden)
            if not self.ids:
                self.first_token = time.perf_counter() - began
            if token in self._local.end_ids:
                self.ended = "end"
                return
            self.add(token, probabilities)
            unread.append(token)
            if hidden.device.type == "cuda":  # it reads while whoever asked handles the token
                hidden, unread = self._local.step(self._context, unread), []
            yield token

    def _choose(self, hidden: torch.Tensor) -> tuple[int, torch.Tensor | None]:
        """The next token, from the last hidden state (D,), and what a mask token was chosen from."""
        if not self.grammar.inside:
            return self._sampler.pick(self._local.text_logits(hidden)), None
        logits = self._local.mask_logits(hidden)
        choice = self._sampler.pick(logits if self.grammar.may_end else logits[:-1])
        if choice == self._local.mask_ids.count:
            return self._local.mask_ids.end, None
        return self._local.mask_ids.first + choice, (2 * logits[:-1]).softmax(dim=-1)
