"""Which tokens may come next while a reply is written: the grammar of mask runs.

A mask run is the start token, 1 to 32 mask tokens and the end token. Inside a run nothing but mask tokens can
come, and outside a run no mask token and no end token. Knows ids and counts; scores are left to `local`.
"""

from dataclasses import dataclass

from ..markup import MAX_RUN


@dataclass(frozen=True)
class MaskIds:
    """Where the mask tokens lie in the language model's vocabulary.

    start, end: ids of <|mt_start|> and <|mt_end|>; first: id of <|mt_0|>; count: size of the codebook, so
    that mask token k has id first + k.
    """

    start: int
    end: int
    first: int
    count: int

    def __contains__(self, token: int) -> bool:
        return self.first <= token < self.first + self.count


class RunGrammar:
    """Follows a reply token by token and tells what may come next.

    mask_tokens: exactly so many tokens in every run; None lets the model end a run itself after at least one
    token, and ends it at the 32nd.
    """

    def __init__(self, ids: MaskIds, mask_tokens: int | None):
        self.ids = ids
        self._length = mask_tokens
        self._open: int | None = None  # mask tokens of the run that is open, None outside a run

    @property
    def inside(self) -> bool:
        """Whether a run is open, so that only mask tokens (and perhaps the end token) may come."""
        return self._open is not None

    @property
    def must_end(self) -> bool:
        """Whether the open run is complete, so that only the end token may come."""
        return self._open is not None and self._open >= (self._length or MAX_RUN)

    @property
    def may_end(self) -> bool:
        """Whether the model may choose between one more mask token and the end token."""
        return self._open is not None and self._length is None and self._open >= 1

    def accept(self, token: int) -> None:
        """Go on past a token, which must be one that may come."""
        if self._open is None:
            assert token != self.ids.end and token not in self.ids, "mask token outside a run"
            if token == self.ids.start:
                self._open = 0
        elif token == self.ids.end:
            assert self.must_end or self.may_end, "a run that ends too early"
            self._open = None
        else:
            assert token in self.ids and not self.must_end, "no mask token inside a run"
            self._open += 1
