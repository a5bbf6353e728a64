"""Reply text <-> spans: words, `<ref>` phrases, `<box>` boxes and mask runs, also while the text streams.

Knows how a reply is written and nothing about pictures: boxes stay on the 0-1000 scale and mask tokens stay
numbers. Nothing is ever lost or refused here: whatever is malformed stays in the text, word for word, with a
line on the span that says what is wrong, so `render(parse(text)) == text` for every string.

How each construct is written:

    <ref>phrase</ref>                               a phrase; it labels the boxes and masks that follow it
    <box>[[x1, y1, x2, y2], ...]</box>              boxes, 0..1000, spaces optional
    <|mt_start|><|mt_7|>...<|mt_end|>               a mask run of 1 to 32 tokens, each 0..1023
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from .errors import MaskError

CODEBOOK_SIZE = 1024
MAX_RUN = 32
BOX_SCALE = 1000

MASK_START = "<|mt_start|>"
MASK_END = "<|mt_end|>"

Box = tuple[float, float, float, float]

_TAG = re.compile(r"</?ref>|</?box>|<\|mt_(?:start|end|[0-9]+)\|>")
_TAG_NAMES = ("<ref>", "</ref>", "<box>", "</box>", MASK_START, MASK_END)
_TOKENS = re.compile(r"(?:<\|mt_[0-9]+\|>)*")
_TOKEN_ID = re.compile(r"<\|mt_([0-9]+)\|>")
_PARTIAL_TOKEN = re.compile(r"<\|mt_[0-9]+\|?")
_NUMBER = r"\s*([+-]?[0-9]+(?:\.[0-9]+)?)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_BOXES = re.compile(r"\s*\[\s*(\[[^\[\]]*\]\s*(?:,\s*\[[^\[\]]*\]\s*)*)\]\s*")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a reply.

    raw: its exact source text. problem: a readable line if it is malformed, else None. complete: False while
    a stream may still add to the markup that begins here.
    """

    raw: str
    problem: str | None = None
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class TextSpan(Span):
    """Words. Malformed markup is words with a problem, the beginning of a tag words with complete=False."""


@dataclass(frozen=True, kw_only=True)
class PhraseSpan(Span):
    """`<ref>label</ref>`. label: the phrase without the spaces around it, never empty."""

    label: str


@dataclass(frozen=True, kw_only=True)
class BoxSpan(Span):
    """`<box>...</box>`.

    boxes: (x1, y1, x2, y2) each, 0..1000, x1 <= x2, y1 <= y2. label: the phrase before it, "" if there is
    none.
    """

    boxes: tuple[Box, ...]
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class MaskSpan(Span):
    """A mask run. tokens: 1 to 32 ids in 0..1023; label: the phrase before it, "" if there is none.

    complete is False only in what `IncrementalParser.feed` returns, from the first token to the end tag.
    """

    tokens: tuple[int, ...]
    label: str = ""


def parse(text: str) -> tuple[Span, ...]:
    """The spans of a whole text, in order; their `raw` put together is the text. Never fails."""
    parser = IncrementalParser()
    parser.feed(text)
    return parser.close()


def render(spans: Iterable[Span]) -> str:
    """The text that the spans were parsed from."""
    return "".join(span.raw for span in spans)


class IncrementalParser:
    """Parses a text that arrives in pieces of any size, as a model writes it.

    What is decided is kept and not read again; only the undecided tail (words that may grow, or markup that
    has not ended) is scanned anew with each piece.
    """

    def __init__(self) -> None:
        self._decided: list[Span] = []
        self._tail = ""
        self._label = ""
        self._closed = False

    def feed(self, piece: str) -> tuple[Span, ...]:
        """Adds a piece and returns the spans of the text so far, unfinished markup with complete=False."""
        assert not self._closed, "feed() after close()"
        self._tail += piece
        self._scan(final=False)
        return (*self._decided, *_pending(self._tail, self._label))

    def close(self) -> tuple[Span, ...]:
        """Ends the text and returns its spans: what is still unfinished now is words with a problem."""
        self._scan(final=True)
        self._closed = True
        return tuple(self._decided)

    def _scan(self, final: bool) -> None:
        """Moves everything that later text cannot change from the tail to the decided spans.

        A tag holds one "<", its first character, so no later text can turn what stands before a whole tag
        into another tag: the first tag found is the first for good.
        """
        text, position = self._tail, 0
        while (tag := _TAG.search(text, position)) is not None:
            if tag.start() > position:
                self._decided.append(TextSpan(raw=text[position:tag.start()]))
            position = tag.start()
            if tag.group() == MASK_START:
                end = _TOKENS.match(text, tag.end()).end()
                if not final and _may_continue_run(text[end:]):
                    break
                if text.startswith(MASK_END, end):
                    end += len(MASK_END)
                span = _mask_span(text[position:end], self._label)
            elif tag.group() in ("<ref>", "<box>"):
                following = _TAG.search(text, tag.end())
                if following is None and not final:
                    break
                end = len(text) if following is None else following.start()
                if following is not None and following.group() == tag.group().replace("<", "</"):
                    end = following.end()
                span = self._tagged_span(text[position:end])
            else:
                end = tag.end()
                span = TextSpan(raw=tag.group(), problem=f"{tag.group()} stands alone, it closes nothing.")
            self._decided.append(span)
            position = end
        self._tail = text[position:]
        if final and self._tail:
            self._decided.append(TextSpan(raw=self._tail))
            self._tail = ""

    def _tagged_span(self, raw: str) -> Span:
        """The span of `<ref>...` or `<box>...`, with or without its closing tag at the end."""
        opening, closing = raw[:5], raw[:5].replace("<", "</")
        if not raw.endswith(closing):
            return TextSpan(raw=raw, problem=f"{opening} is not closed, {closing} is missing.")
        content = raw[len(opening):-len(closing)]
        if opening == "<box>":
            return _box_span(raw, content, self._label)
        if not content.strip():
            return TextSpan(raw=raw, problem="<ref></ref> holds no phrase.")
        self._label = content.strip()
        return PhraseSpan(raw=raw, label=self._label)


def mask_run(tokens: Sequence[int]) -> str:
    """Writes 1 to 32 mask tokens, each 0..1023, as a run. Raises MaskError for anything else."""
    if not 1 <= len(tokens) <= MAX_RUN:
        raise MaskError(f"A mask run has 1 to {MAX_RUN} tokens, not {len(tokens)}.")
    for token in tokens:
        if not isinstance(token, Integral) or not 0 <= token < CODEBOOK_SIZE:
            raise MaskError(f"A mask token is an integer from 0 to {CODEBOOK_SIZE - 1}, not {token!r}.")
    return MASK_START + "".join(f"<|mt_{token}|>" for token in tokens) + MASK_END


def format_boxes(boxes: Sequence[Sequence[float]]) -> str:
    """Writes boxes on the 0-1000 scale as `<box>[[x1, y1, x2, y2], ...]</box>`, rounded to whole numbers.

    Raises MaskError for no box at all, for corners outside 0..1000 and for swapped corners.
    """
    return f"<box>{format_box_list(boxes)}</box>"


def format_box_list(boxes: Sequence[Sequence[float]]) -> str:
    """Like `format_boxes` without the tags around it: `[[x1, y1, x2, y2], ...]`."""
    text = _format_numbers(boxes, 4, "box (x1, y1, x2, y2)")
    for box in boxes:
        if box[0] > box[2] or box[1] > box[3]:
            raise MaskError(f"A box (x1, y1, x2, y2) needs x1 <= x2 and y1 <= y2, but it is {tuple(box)}.")
    return text


def format_points(points: Sequence[Sequence[float]]) -> str:
    """Writes points on the 0-1000 scale as `[[x, y], ...]`, rounded to whole numbers; errors as for boxes."""
    return _format_numbers(points, 2, "point (x, y)")


def _format_numbers(rows: Sequence[Sequence[float]], count: int, what: str) -> str:
    if len(rows) == 0:
        raise MaskError(f"At least one {what} is needed, but there is none.")
    for row in rows:
        if not hasattr(row, "__len__") or len(row) != count:
            raise MaskError(f"A {what} is {count} numbers, not {row!r}.")
        if not all(isinstance(value, Real) and 0 <= value <= BOX_SCALE for value in row):
            raise MaskError(f"A {what} lies on the scale from 0 to {BOX_SCALE}, but it is {tuple(row)}.")
    return "[" + ", ".join("[" + ", ".join(str(round(value)) for value in row) + "]" for row in rows) + "]"


def _mask_span(raw: str, label: str) -> Span:
    """The span of `<|mt_start|>` and the mask tokens after it, with or without the end tag."""
    problem = _run_problem(raw)
    if problem is None and not raw.endswith(MASK_END):
        problem = f"The mask run is cut off, {MASK_END} is missing; tokens so far: {len(_token_ids(raw))}."
    if problem is None and raw == MASK_START + MASK_END:
        problem = "The mask run holds no tokens."
    if problem is not None:
        return TextSpan(raw=raw, problem=problem)
    return MaskSpan(raw=raw, tokens=_token_ids(raw), label=label)


def _run_problem(raw: str) -> str | None:
    """What is wrong with the tokens of a run, whether or not it has ended."""
    written = _TOKEN_ID.findall(raw)
    if len(written) > MAX_RUN:
        return f"The mask run has {len(written)} tokens, more than {MAX_RUN}."
    for digits in written:
        # The length first: a number of thousands of digits is not worth reading. "007" is no token either.
        if len(digits) > 4 or str(int(digits)) != digits or int(digits) >= CODEBOOK_SIZE:
            shown = digits if len(digits) <= 12 else f"{digits[:12]}..."
            return f"The mask run holds the unknown token {shown}, ids go from 0 to {CODEBOOK_SIZE - 1}."
    return None


def _token_ids(raw: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in _TOKEN_ID.findall(raw))


def _box_span(raw: str, content: str, label: str) -> Span:
    written = _BOXES.fullmatch(content)
    parts = re.findall(r"\[[^\[\]]*\]", written.group(1)) if written else []
    matches = [_BOX.fullmatch(part) for part in parts]
    if not matches or None in matches:
        return TextSpan(raw=raw, problem="The box is not written as [[x1, y1, x2, y2]].")
    boxes = tuple(tuple(float(number) for number in match.groups()) for match in matches)
    for x1, y1, x2, y2 in boxes:
        shown = f"[{x1:g}, {y1:g}, {x2:g}, {y2:g}]"
        if not all(0 <= value <= BOX_SCALE for value in (x1, y1, x2, y2)):
            return TextSpan(raw=raw, problem=f"The box {shown} leaves the scale from 0 to {BOX_SCALE}.")
        if x1 > x2 or y1 > y2:
            return TextSpan(raw=raw, problem=f"The corners of the box {shown} are swapped.")
    return BoxSpan(raw=raw, boxes=boxes, label=label)


def _pending(tail: str, label: str) -> list[Span]:
    """The spans that show an undecided tail: words, a tag cut in the middle, or markup that has not ended."""
    cut = _partial_tag(tail)
    if tail.startswith(MASK_START):
        problem = _run_problem(tail)
        if problem is not None or not _token_ids(tail):
            return [TextSpan(raw=tail, problem=problem, complete=False)]
        return [MaskSpan(raw=tail, tokens=_token_ids(tail), label=label, complete=False)]
    if tail.startswith("<ref>") and tail[5:cut].strip():
        return [PhraseSpan(raw=tail, label=tail[5:cut].strip(), complete=False)]
    if tail.startswith(("<ref>", "<box>")):
        return [TextSpan(raw=tail, complete=False)]
    words = [TextSpan(raw=tail[:cut])] if cut > 0 else []
    return words + ([TextSpan(raw=tail[cut:], complete=False)] if cut < len(tail) else [])


def _partial_tag(text: str) -> int:
    """Where a tag begins that the end of the text cuts in the middle; the length of the text if none does."""
    start = text.rfind("<")
    rest = text[start:] if start >= 0 else ""
    if rest and (any(tag.startswith(rest) for tag in _TAG_NAMES) or _PARTIAL_TOKEN.fullmatch(rest)):
        return start
    return len(text)


def _may_continue_run(rest: str) -> bool:
    """Whether what follows the tokens of a run can still grow into another token or the end tag."""
    return rest != MASK_END and (MASK_END.startswith(rest) or _PARTIAL_TOKEN.fullmatch(rest) is not None)
