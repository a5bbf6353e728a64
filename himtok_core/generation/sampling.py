"""How the next token is chosen from its scores: greedily, or drawn at random.

Knows scores and nothing of what they stand for. Which tokens may come at all is `constraints`' work.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import torch

from ..errors import GenerationError


@dataclass(frozen=True)
class Sampling:
    """Draw tokens at random instead of always taking the most likely one.

    temperature: scores are divided by it; 0 is greedy. top_p: keep the fewest tokens whose probabilities sum
    to at least this, in (0, 1]. top_k: keep only this many of the most likely tokens, None for all. seed: an
    integer makes the draw repeatable, None does not. Raises GenerationError for a value out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or self.temperature < 0:
            raise GenerationError(f"The temperature must be 0 or more, not {self.temperature!r}.")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p must be above 0 and at most 1, not {self.top_p!r}.")
        if self.top_k is not None and (not isinstance(self.top_k, Integral) or self.top_k < 1):
            raise GenerationError(f"top_k must be a whole number of at least 1, not {self.top_k!r}.")
        if self.seed is not None and (not isinstance(self.seed, Integral) or not 0 <= self.seed < 2**63):
            raise GenerationError(f"The seed must be a whole number from 0 up, not {self.seed!r}.")


class Sampler:
    """Chooses one token after the other for one reply; greedily if `sampling` is None."""

    def __init__(self, sampling: Sampling | None):
        self._sampling = sampling if sampling is not None and sampling.temperature > 0 else None
        self._generator: torch.Generator | None = None  # made where the first scores lie

    def pick(self, logits: torch.Tensor) -> int:
        """logits: float (V,), -inf where a token cannot come -> the index of the chosen one."""
        if self._sampling is None:
            return int(logits.argmax())
        if self._generator is None:
            self._generator = torch.Generator(logits.device)
            if self._sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(int(self._sampling.seed))
        logits = logits.float() / self._sampling.temperature
        if self._sampling.top_k is not None and self._sampling.top_k < len(logits):
            least = logits.topk(self._sampling.top_k).values[-1]
            logits = logits.masked_fill(logits < least, -torch.inf)
        probabilities = logits.softmax(dim=-1)
        if self._sampling.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # A token stays while those before it have not reached top_p, so the most likely one always does.
            ordered = ordered.masked_fill(ordered.cumsum(0) - ordered >= self._sampling.top_p, 0.0)
            probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
