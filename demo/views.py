"""Reply -> what the page shows: HTML for the conversation, the overlay, the legend and the token lengths.

Pure functions. Whatever a model or a visitor wrote is escaped on its way into the page, so markup in it can
neither vanish nor run. An object has one colour, given by its number in the conversation, in the text, the
legend and the overlay alike. Pixels are left to `drawing`.
"""

from collections.abc import Iterable, Sequence
from html import escape

from himtok_core import Reply, geometry, markup

from . import drawing
from .visitor import Turn

LENGTHS = (1, 2, 4, 8, 16, 32)


# ---- which span of a text belongs to which object ----------------------------------------------------------


def span_objects(spans: Sequence[markup.Span], reply: Reply) -> list[int | None]:
    """For each span the index of the object in `reply.objects` that it belongs to, None for words.

    Objects stand in the order of the text, so the boxes and the mask runs are counted off one after another;
    a phrase belongs to the first box or mask between it and the next phrase.
    """
    with_tokens = iter([index for index, item in enumerate(reply.objects) if item.tokens])
    with_box = [index for index, item in enumerate(reply.objects) if item.box is not None]
    owners: list[int | None] = [None] * len(spans)
    for position, span in enumerate(spans):
        if isinstance(span, markup.MaskSpan):
            owners[position] = next(with_tokens, None)
        elif isinstance(span, markup.BoxSpan):
            owners[position] = with_box[0] if with_box else None
            del with_box[: len(span.boxes)]
    following: int | None = None
    for position in range(len(spans) - 1, -1, -1):
        if isinstance(spans[position], markup.PhraseSpan):
            owners[position], following = following, None
        elif owners[position] is not None:
            following = owners[position]
    return owners


def object_names(turn: Turn) -> list[str]:
    """What each object of a turn is called: its own phrase, else the question's only one, else its number."""
    asked = [span.label for span in markup.parse(turn.prompt.text) if isinstance(span, markup.PhraseSpan)]
    objects = turn.reply.objects if turn.reply else ()
    fallback = asked[0] if len(asked) == 1 else ""
    return [item.label or fallback or f"object {number}" for number, item in enumerate(objects, start=1)]


# ---- text --------------------------------------------------------------------------------------------------


def prompt_html(text: str, colours: dict[str, int] | None = None) -> str:
    """A question exactly as it goes to the model: every character is there, tags are only drawn paler.

    colours: number of the colour for a phrase that an object of the answer carries.
    """
    return "".join(_prompt_span(span, colours or {}) for span in markup.parse(text))


def _prompt_span(span: markup.Span, colours: dict[str, int]) -> str:
    if isinstance(span, markup.PhraseSpan):
        inside = escape(span.raw.removeprefix("<ref>").removesuffix("</ref>"))
        phrase = f"<b{_object_attributes(colours.get(span.label))}>{inside}</b>"
        return f'<span class="tag">&lt;ref&gt;</span>{phrase}<span class="tag">&lt;/ref&gt;</span>'
    if isinstance(span, markup.MaskSpan):
        return _mask_chip(span, None)
    return escape(span.raw)


def reply_html(reply: Reply, first_colour: int) -> str:
    """The model's words, with phrases, boxes and mask runs in their objects' colours; mask runs are chips."""
    parser = markup.IncrementalParser()
    spans = parser.feed(reply.text)
    if reply.finished:
        spans = parser.close()
    spans = _gather_strays(spans)
    parts = []
    for span, owner in zip(spans, span_objects(spans, reply), strict=True):
        number = None if owner is None else first_colour + owner
        if isinstance(span, markup.PhraseSpan):
            parts.append(f'<b class="phrase"{_object_attributes(number)}>{escape(span.label)}</b>')
        elif isinstance(span, markup.MaskSpan):
            parts.append(_mask_chip(span, number))
        elif isinstance(span, markup.BoxSpan):
            parts.extend(_box_chip(box, span.raw, number) for box in span.boxes)
        elif _is_stray(span):
            parts.append(_chip("mask run", span.problem or "", span.raw, None))
        elif span.problem:
            parts.append(f'<span class="odd" title="{escape(span.problem)}">{escape(span.raw)}</span>')
        else:
            parts.append(escape(span.raw))
    return "".join(parts)


def _is_stray(span: markup.Span) -> bool:
    """Whether a span is mask markup that is no mask run: cut off, too long, or tokens on their own."""
    return isinstance(span, markup.TextSpan) and span.raw.startswith("<|mt_")


def _gather_strays(spans: Sequence[markup.Span]) -> list[markup.Span]:
    """The spans with neighbouring strays put together, so that many of them are still one chip."""
    gathered: list[markup.Span] = []
    for span in spans:
        if gathered and _is_stray(span) and _is_stray(gathered[-1]):
            before = gathered.pop()
            span = markup.TextSpan(raw=before.raw + span.raw, problem=before.problem)
        gathered.append(span)
    return gathered


def _mask_chip(span: markup.MaskSpan, number: int | None) -> str:
    count = len(span.tokens)
    return _chip("mask", f"{count} token{'' if count == 1 else 's'}", span.raw, number)


def _box_chip(box: markup.Box, raw: str, number: int | None) -> str:
    return _chip("box", " ".join(f"{value:g}" for value in box), raw, number)


def _chip(name: str, detail: str, raw: str, number: int | None) -> str:
    """A small word that stands for markup; one click shows the markup itself."""
    return (f'<details class="chip"{_object_attributes(number)}><summary><i></i>{name}'
            f'<span>{escape(detail)}</span></summary><code>{escape(raw)}</code></details>')


def _object_attributes(number: int | None) -> str:
    if number is None:
        return ""
    return f' data-object="{number}" style="--object: {drawing.colour_of(number)}"'


# ---- the conversation --------------------------------------------------------------------------------------


def conversation_html(turns: Iterable[Turn]) -> str:
    """All turns, newest last; without any, a hint of how to begin."""
    shown = "".join(_turn_html(turn) for turn in turns)
    return shown or (
        '<div class="hint"><p>Nothing asked yet.</p><p>Choose what to ask for, name a thing in the picture, '
        "and send it. The answer is written here and drawn over the picture.</p></div>")


def _turn_html(turn: Turn) -> str:
    names = object_names(turn)
    colours: dict[str, int] = {}
    for index, name in enumerate(names):
        colours.setdefault(name, turn.first_colour + index)
    answer = ""
    if turn.reply is not None:
        state = "" if turn.finished else " writing"
        answer = f'<div class="said{state}">{reply_html(turn.reply, turn.first_colour)}</div>'
        answer += _footer(turn.reply)
    elif not turn.error:
        answer = '<div class="said writing waiting">Waiting for the model</div>'
    if turn.error:
        answer += f'<div class="failed" role="alert">{escape(turn.error)}</div>'
    return (f'<article class="turn"><div class="asked">{prompt_html(turn.prompt.text, colours)}</div>'
            f'<div class="answer">{answer}</div></article>')


def _footer(reply: Reply) -> str:
    problems = dict.fromkeys(reply.problems)
    notes = "".join(f'<p class="problem">{escape(problem)}</p>' for problem in problems)
    if not reply.finished:
        return notes
    facts = ["stopped"] if reply.stopped else []
    if reply.timing is not None:
        count = reply.timing.new_tokens
        facts += [f"{count} token{'' if count == 1 else 's'}", f"{reply.timing.total:.1f} s"]
    raw = f'<details class="raw"><summary>Raw text</summary><code>{escape(reply.text)}</code></details>'
    return f'{notes}<footer>{raw}<span>{" · ".join(facts)}</span></footer>'


# ---- the picture -------------------------------------------------------------------------------------------


def overlay_html(turn: Turn | None) -> str:
    """The objects of a turn as layers that fill the picture: mask area and outline, box and name.

    Sharpened masks lie beside those that the tokens drew, on the two sides of a line that can be moved.
    """
    if turn is None or turn.visible is None:
        return ""
    parts = [_mask_layers(turn, turn.visible)]
    if turn.refined is not None:
        before = _mask_layers(turn, turn.unrefined)
        parts = [f'<div class="before">{before}</div><div class="after">{parts[0]}</div>'
                 '<div class="line"></div>']
    width, height = turn.visible.size
    for index, (item, name) in enumerate(zip(turn.visible.objects, object_names(turn), strict=True)):
        if item.box is not None:
            attributes = _object_attributes(turn.first_colour + index)
            x0, y0, x1, y1 = item.box
            place = (f"left: {100 * x0 / width:.3f}%; top: {100 * y0 / height:.3f}%; "
                     f"width: {100 * (x1 - x0) / width:.3f}%; height: {100 * (y1 - y0) / height:.3f}%")
            attributes = attributes.replace('style="', f'style="{place}; ')
            parts.append(f'<div class="box"{attributes}><span>{escape(name)}</span></div>')
    return "".join(parts)


def _mask_layers(turn: Turn, reply: Reply) -> str:
    parts = []
    for index, (item, name) in enumerate(zip(reply.objects, object_names(turn), strict=True)):
        if item.mask is not None:
            attributes = _object_attributes(turn.first_colour + index)
            area, edge = drawing.layer_urls(item.mask, drawing.colour_of(turn.first_colour + index))
            parts.append(f'<img class="area" alt="Mask of {escape(name)}" src="{area}"{attributes}>')
            parts.append(f'<img class="edge" alt="" src="{edge}"{attributes}>')
    return "".join(parts)


def refinement_html(turn: Turn | None) -> str:
    """How much sharpening changed a turn's masks, and how long it took; "" if they were not sharpened."""
    if turn is None or turn.refined is None:
        return ""
    pairs = zip(turn.unrefined.objects, turn.refined.objects, strict=True)
    ious = [geometry.mask_iou(one.mask, other.mask) for one, other in pairs if one.mask is not None]
    mean = "" if len(ious) == 1 else f", mean of {len(ious)} masks"
    return (f'<p class="refined"><span>before</span><b>IoU of the two {sum(ious) / len(ious):.2f}{mean} · '
            f"{1000 * turn.refine_seconds:.0f} ms</b><span>after</span></p>")


def legend_html(turn: Turn | None) -> str:
    """One row for each object of a turn: colour, name, what was found, and its mask as a file."""
    if turn is None or turn.visible is None:
        return ""
    rows = []
    for index, (item, name) in enumerate(zip(turn.visible.objects, object_names(turn), strict=True)):
        facts = []
        if item.mask is not None:
            facts.append(f"{100 * item.mask.mean():.1f} % of the picture")
        if item.box is not None:
            facts.append("box " + " ".join(f"{value:.0f}" for value in item.box) + " px")
        link = ""
        if item.mask is not None and turn.finished:
            file = "mask " + "".join(letter if letter.isalnum() else " " for letter in name.lower())
            link = (f'<a class="download" download="{"-".join(file.split())}.png" '
                    f'href="{drawing.mask_url(item.mask)}">Mask PNG</a>')
        rows.append(f'<li{_object_attributes(turn.first_colour + index)}><i></i><b>{escape(name)}</b>'
                    f'<span>{" · ".join(facts)}</span>{link}</li>')
    return f'<ul class="legend">{"".join(rows)}</ul>' if rows else ""


def length_previews(turn: Turn, shortened: Iterable[Reply]) -> tuple[str, ...]:
    """Small pictures of a turn's masks, one for each shortened reply, as data URLs; () if it has no mask."""
    previews = []
    for reply in shortened:
        colours = [drawing.colour_of(turn.first_colour + index) for index in range(len(reply.objects))]
        drawn = [(item.mask, colour) for item, colour in zip(reply.objects, colours) if item.mask is not None]
        if drawn:
            previews.append(drawing.coverage_url(drawn))
    return tuple(previews)


def lengths_html(turn: Turn | None, chosen: int) -> str:
    """The previews of a turn at each of LENGTHS, as buttons; the one shown on the picture is pressed."""
    if turn is None or not turn.previews:
        return ""
    cells = "".join(
        f'<button type="button" data-length="{length}" aria-pressed="{str(length == chosen).lower()}" '
        f'title="{length} mask tokens"><img alt="" src="{picture}"><span>{length}</span></button>'
        for length, picture in zip(LENGTHS, turn.previews, strict=True))
    return f'<div class="lengths">{cells}</div>'


# ---- choices -----------------------------------------------------------------------------------------------


def suggestions_html(texts: Iterable[str]) -> str:
    """Texts that one click puts into the question field."""
    shown = [escape(text) for text in texts]
    buttons = "".join(f'<button type="button" data-text="{text}">{text}</button>' for text in shown)
    return f'<div class="suggestions">{buttons}</div>'


def examples_html(pictures: Iterable[tuple[str, str]]) -> str:
    """(data URL, title) of each example picture, as buttons that carry its number."""
    buttons = "".join(
        f'<button type="button" data-example="{number}" title="{escape(title)}">'
        f'<img alt="Example: {escape(title)}" src="{url}"></button>'
        for number, (url, title) in enumerate(pictures))
    return f'<div class="examples">{buttons}</div>'
