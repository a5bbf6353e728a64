"""The tokens of one reply while it is written: its ids, its mask runs, and the grammar that they follow.

Where the tokens come from is `local`'s and `batch`'s matter, what they mean is `replies`'.
"""

from dataclasses import dataclass, field

import torch

from .constraints import MaskIds, RunGrammar


@dataclass
class Run:
    """A mask run as it is generated.

    tokens: ints in [0, K). probabilities: one float32 (K,) tensor for each, softmax of twice the logits over
    the codebook (the paper's de-tokenising of answers starts from these). closed: whether its end token has
    come.
    """

    tokens: list[int] = field(default_factory=list)
    probabilities: list[torch.Tensor] = field(default_factory=list)
    closed: bool = False


class Transcript:
    """The tokens of one reply, and what may come next.

    ids: generated so far, without the token that ends the reply. runs: its mask runs. ended: why it is over:
    "end", "stopped", "length" (limit of new tokens) or "context" (no room left in the model); None before.
    """

    def __init__(self, mask_ids: MaskIds, mask_tokens: int | None):
        self.grammar = RunGrammar(mask_ids, mask_tokens)
        self.ids: list[int] = []
        self.runs: list[Run] = []
        self.ended: str | None = None

    def add(self, token: int, probabilities: torch.Tensor | None = None) -> None:
        """Take in the next token; probabilities: float (K,), what a mask token was chosen from."""
        mask_ids = self.grammar.ids
        self.grammar.accept(token)
        self.ids.append(token)
        if token == mask_ids.start:
            self.runs.append(Run())
        elif token == mask_ids.end:
            self.runs[-1].closed = True
        elif token in mask_ids:
            self.runs[-1].tokens.append(token - mask_ids.first)
            self.runs[-1].probabilities.append(probabilities)
