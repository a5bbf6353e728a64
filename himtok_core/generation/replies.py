"""Generated text and mask runs -> a growing `Reply`.

Knows what belongs to one object, what it is called, when a mask is drawn and what counts as a problem. Where
the text comes from is left to `local` and `batch`; how a reply is shown, to whoever reads it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..geometry import scale_box_to_pixels
from ..markup import BoxSpan, IncrementalParser, MaskSpan, PhraseSpan, Span, parse
from ..reply import Prompt, Reply, ReplyObject
from .masks import picture_mask
from .transcript import Run

DRAW_AT = frozenset({1, 2, 4, 8, 16, 32})  # tokens of an open run at which its mask is drawn again

Draw = Callable[[Sequence[Sequence[int] | torch.Tensor]], list[np.ndarray]]


@dataclass(frozen=True)
class Drawing:
    """What a run looked like when it had `count` tokens; arrays as in `ReplyObject`."""

    count: int
    probability: np.ndarray
    mask: np.ndarray | None
    token_probabilities: np.ndarray


class ReplyBuilder:
    """Collects one reply.

    draw: de-tokenises runs in one batch, float32 [S, S] each. prompt: the question, whose phrase names
    objects that the reply does not name itself. size: (width, height) of the picture.
    """

    def __init__(self, draw: Draw, prompt: Prompt, size: tuple[int, int]):
        self._draw, self._prompt, self._size = draw, prompt, size
        self._asked = [span.label for span in parse(prompt.text) if isinstance(span, PhraseSpan)]
        self._parser = IncrementalParser()
        self._spans: tuple[Span, ...] = ()
        self._drawings: list[Drawing | None] = []  # one for each run so far
        self._text = ""
        self.draw_seconds = 0.0

    def add(self, piece: str) -> None:
        """Takes in the next piece of text."""
        self._text += piece
        self._spans = self._parser.feed(piece)

    def partial(self, runs: Sequence[Run]) -> Reply:
        """The reply so far. Draws a run again only when it has ended or doubled its tokens."""
        self._drawings += [None] * (len(runs) - len(self._drawings))
        due = []
        for index, (run, drawing) in enumerate(zip(runs, self._drawings)):
            grown = len(run.tokens) > (drawing.count if drawing else 0)
            if grown and (run.closed or len(run.tokens) in DRAW_AT):
                due.append(index)
        self._draw_runs(runs, due)
        return Reply(text=self._text, objects=self._objects(runs), size=self._size, finished=False)

    def final(self, runs: Sequence[Run], ended: str, max_new_tokens: int) -> Reply:
        """The whole reply, every run drawn in one batch. ended: as in `Generation`."""
        self._drawings += [None] * (len(runs) - len(self._drawings))
        self._draw_runs(runs, [index for index, run in enumerate(runs) if run.tokens])
        objects = self._objects(runs)
        problems = [span.problem for span in self._parser.close() if span.problem]
        if ended == "length":
            problems.append(f"The answer was cut off at the limit of {max_new_tokens} new tokens.")
        if ended == "context":
            problems.append(
                "The answer was cut off: the conversation fills all that the model can read. "
                "Start a new conversation or undo a turn."
            )
        problems += _empty_masks(objects)
        if ended == "end" and not self._text.strip():
            problems.append("The model gave an empty answer.")
        if self._prompt.expects_mask and not any(item.tokens for item in objects) and ended != "stopped":
            problems.append("A mask was asked for, but the model answered without one.")
        return Reply(
            text=self._text,
            objects=objects,
            size=self._size,
            problems=tuple(problems),
            stopped=ended == "stopped",
        )

    def _draw_runs(self, runs: Sequence[Run], which: Sequence[int]) -> None:
        if not which:
            return
        began = time.perf_counter()
        soft = [torch.stack(runs[index].probabilities) for index in which]  # (n, K) each
        for index, rows, probability in zip(which, soft, self._draw(soft)):
            mask = picture_mask(probability, self._size)
            self._drawings[index] = Drawing(len(rows), probability, mask, rows.float().cpu().numpy())
        self.draw_seconds += time.perf_counter() - began

    def _objects(self, runs: Sequence[Run]) -> tuple[ReplyObject, ...]:
        waiting = [index for index, run in enumerate(runs) if run.tokens]
        groups: list[tuple[str, list[ReplyObject]]] = [("", [])]  # label; what follows it
        for span in self._spans:
            if isinstance(span, PhraseSpan):
                groups.append((span.label, []))
            elif isinstance(span, BoxSpan):
                boxes = [scale_box_to_pixels(box, self._size) for box in span.boxes]
                groups[-1][1].extend(ReplyObject(span.label, box, None, None) for box in boxes)
            elif isinstance(span, MaskSpan):
                # A model that spells a run in letters has made no run: such a span stays without a mask.
                run = waiting.pop(0) if waiting and span.tokens == tuple(runs[waiting[0]].tokens) else None
                groups[-1][1].append(
                    self._mask_object(span, self._drawings[run] if run is not None else None)
                )
        objects = [item for _, group in groups for item in _joined(group)]
        if any(label for label, _ in groups):
            return tuple(objects)
        if len(self._asked) == 1:
            return tuple(replace(item, label=self._asked[0]) for item in objects)
        if len(self._asked) == len(objects):  # one phrase of the question for each, in order
            return tuple(replace(item, label=label) for item, label in zip(objects, self._asked))
        return tuple(objects)

    def _mask_object(self, span: MaskSpan, drawing: Drawing | None) -> ReplyObject:
        if drawing is None:
            return ReplyObject(span.label, None, None, None, span.tokens, complete=span.complete)
        rows = drawing.token_probabilities if drawing.count == len(span.tokens) else None
        return ReplyObject(
            span.label, None, drawing.mask, drawing.probability, span.tokens, rows, complete=span.complete
        )


def redraw(reply: Reply, mask_tokens: int, draw: Draw) -> Reply:
    """The same reply with every mask drawn from its first `mask_tokens` tokens (all, if it has fewer), in
    one batch.

    The objects keep all their tokens, so that the length can be raised again.
    """
    which = [index for index, item in enumerate(reply.objects) if item.tokens]
    runs = []
    for item in (reply.objects[index] for index in which):
        if item.token_probabilities is None:
            runs.append(item.tokens[:mask_tokens])
        else:
            runs.append(torch.from_numpy(item.token_probabilities[:mask_tokens]))
    objects = list(reply.objects)
    for index, probability in zip(which, draw(runs)):
        objects[index] = replace(
            objects[index], probability=probability, mask=picture_mask(probability, reply.size)
        )
    before = _empty_masks(reply.objects)
    problems = [line for line in reply.problems if line not in before] + _empty_masks(objects)
    return replace(reply, objects=tuple(objects), problems=tuple(problems))


def _joined(group: list[ReplyObject]) -> list[ReplyObject]:
    """One box and one mask under the same label are one object."""
    boxes = [item for item in group if item.box is not None]
    masks = [item for item in group if item.tokens]
    if len(boxes) == len(masks) == 1:
        return [replace(masks[0], box=boxes[0].box)]
    return group


def _empty_masks(objects: Sequence[ReplyObject]) -> list[str]:
    """A line for every object whose tokens give no mask at all."""
    return [
        f"The mask tokens{f' of {item.label}' if item.label else ''} give an empty mask, so none is shown."
        for item in objects
        if item.probability is not None and item.mask is None
    ]
