"""The conversation about a picture: what is on the tab and what happens when.

Knows Gradio's components and events. A visitor's state and limits are left to `visitor`, what is shown to
`views`. The model has one queue for all visitors; decoding masks again has another, so that a slider never
waits for an answer.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from html import escape
from pathlib import Path

import gradio as gr

from himtok_core import Chat, HimtokError, SamRefiner

from . import drawing, questions, views
from .examples import Example
from .visitor import MASK_TOKENS, MAX_QUESTION, Turn, Visitor

MASK_VIEWS = 5  # so many of the components in `following` show masks, and come first
SECONDS_BETWEEN_UPDATES = 0.12  # while an answer streams; faster than a page can follow is waste

MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
MASK_QUEUE = {"concurrency_id": "masks", "concurrency_limit": 1, "show_progress": "hidden"}
AT_ONCE = {"concurrency_limit": None, "show_progress": "hidden"}

SET_OPACITY = "(percent) => { document.body.style.setProperty('--mask-opacity', percent / 100); }"
SET_WIPE = "(percent) => { document.body.style.setProperty('--wipe', percent + '%'); }"
LOAD_REFINER = "No SAM is loaded. Start the app with --refiner and a folder, file or hub id of one."

# The picture comes from us as a data URL; `value` is the overlay that `views` has escaped.
STAGE = """<div class="stage ${picture ? 'filled' : 'empty'}">
<div class="frame" style="--ratio: ${ratio}">
${picture ? `<img class="picture" alt="The picture" src="${picture}">` : ''}
<div class="overlay">${value}</div>
</div>
<p class="invitation"><b>Drop a picture here</b>
<span>paste one, click to choose a file, or pick an example below</span></p>
</div>"""


def picking(name: str) -> str:
    """Script of an HTML component: a click on something with data-<name> triggers `pick` with that value."""
    return f"""element.addEventListener('click', (event) => {{
        const chosen = event.target.closest('[data-{name}]');
        if (chosen) trigger('pick', {{ chosen: chosen.dataset.{name} }});
    }});"""


# ---- functions ---------------------------------------------------------------------------------------------


def as_message(error: HimtokError) -> gr.Error:
    # Gradio renders messages as HTML, and a message may quote what a visitor sent.
    return gr.Error(escape(str(error)), print_exception=False)


def readable(function: Callable) -> Callable:
    """An event's function whose HimtokErrors reach the visitor as messages."""

    @wraps(function)
    def wrapped(*arguments: object) -> object:
        try:
            return function(*arguments)
        except HimtokError as error:
            raise as_message(error) from error

    return wrapped


def present(visitor: Visitor | None) -> Visitor:
    if visitor is None:
        raise HimtokError("This page has lost its connection to the app. Please reload it.")
    return visitor


def shown_turn(visitor: Visitor) -> Turn | None:
    """The turn that lies over the picture: the one being answered, else the last one with an answer."""
    return visitor.turns[-1] if visitor.busy else visitor.last_answer()


def display(visitor: Visitor) -> tuple[object, ...]:
    """Values for everything that follows the conversation, in the order of `following` in `build`."""
    turn, busy = shown_turn(visitor), visitor.busy
    return (
        views.overlay_html(turn),
        views.legend_html(turn),
        views.lengths_html(turn, visitor.mask_tokens),
        views.refinement_html(turn),
        gr.Slider(visible=turn is not None and turn.refined is not None),
        views.conversation_html(visitor.turns),
        gr.Row(visible=turn is not None and bool(turn.previews)),
        gr.Slider(value=visitor.mask_tokens),
        gr.Button(visible=not busy),
        gr.Button(visible=busy),
        gr.Button(interactive=bool(visitor.turns) and not busy),
        gr.Button(interactive=bool(visitor.turns)),
    )


@readable
def open_picture(visitor: Visitor | None, path: str | Path, names: Sequence[str] = ()) -> tuple[object, ...]:
    """Begin with another picture. names: what is known to be in it."""
    visitor = present(visitor)
    conversation = visitor.open(path, names)
    picture = conversation.picture
    ratio = f"{picture.width / picture.height:.4f}"
    return gr.HTML(value="", picture=drawing.picture_url(picture), ratio=ratio), *display(visitor)[1:]


@readable
def accept(visitor: Visitor | None, kind: str, text: str) -> tuple[object, ...]:
    """Take a question and empty its field; the answer follows in `answer`."""
    visitor = present(visitor)
    visitor.accept(questions.make_prompt(kind, text, visitor.last_mask()))
    return "", *display(visitor)


@readable
def retry(visitor: Visitor | None) -> tuple[object, ...]:
    visitor = present(visitor)
    visitor.retry()
    return display(visitor)


def answer(visitor: Visitor | None) -> Iterator[tuple[object, ...]]:
    """Stream the answer to the accepted question, as often as a page can follow."""
    visitor, last = present(visitor), 0.0
    try:
        for _ in visitor.answers():
            if time.monotonic() - last >= SECONDS_BETWEEN_UPDATES:
                yield display(visitor)
                last = time.monotonic()
    except HimtokError as error:
        yield display(visitor)  # Gradio skips the steps that would follow an error
        raise as_message(error) from error


@readable
def finish(visitor: Visitor | None) -> tuple[object, ...]:
    """After an answer: show it whole, and its masks at every length."""
    visitor = present(visitor)
    turn = visitor.last_answer()
    if turn is not None and turn.reply is not None and not turn.previews and not visitor.busy:
        shortened = (visitor.chat.redecode(turn.reply, length) for length in views.LENGTHS)
        turn.previews = views.length_previews(turn, shortened)
        visitor.refine(visitor.refining)
    return display(visitor)


@readable
def stop(visitor: Visitor | None) -> tuple[object, ...]:
    visitor = present(visitor)
    visitor.stop()
    return display(visitor)


@readable
def clear(visitor: Visitor | None) -> tuple[object, ...]:
    visitor = present(visitor)
    visitor.clear()
    return display(visitor)


@readable
def shorten(visitor: Visitor | None, length: float) -> tuple[object, ...]:
    """Draw the last answer from its first mask tokens: values for what shows masks."""
    visitor = present(visitor)
    visitor.shorten(int(length))
    return display(visitor)[:MASK_VIEWS]


@readable
def refine(visitor: Visitor | None, on: bool) -> tuple[object, ...]:
    """Sharpen masks from now on, or no more: values for what shows masks."""
    visitor = present(visitor)
    visitor.refine(on)
    return display(visitor)[:MASK_VIEWS]


# ---- the tab -----------------------------------------------------------------------------------------------


def build(chat: Chat, examples: Sequence[Example], state: gr.State, refiner: SamRefiner | None) -> None:
    """Lay out the tab inside the current Blocks and connect its events."""
    concepts = questions.concept_names(chat)
    first_kind = next(iter(questions.KINDS))

    def html(value: str, name: str, picks: str | None = None) -> gr.HTML:
        script = picking(picks) if picks else None
        return gr.HTML(value, elem_id=name, apply_default_css=False, js_on_load=script)

    def small_button(label: str, name: str) -> gr.Button:
        return gr.Button(label, elem_id=name, size="sm", scale=0, min_width=0, interactive=False)

    # ---- layout
    with gr.Row(elem_id="workspace"):
        with gr.Column(elem_id="picture-side", scale=7, min_width=320):
            stage = gr.HTML("", elem_id="stage", html_template=STAGE, picture="", ratio="1.6",
                            apply_default_css=False, js_on_load=None)
            legend = html("", "legend")
            with gr.Row(elem_id="tools", visible=False) as tools:
                length = gr.Slider(1, MASK_TOKENS, MASK_TOKENS, step=1, label="Mask tokens", elem_id="length")
                opacity = gr.Slider(0, 100, 50, step=1, label="Mask opacity", elem_id="opacity")
            with gr.Row(elem_id="refining"):
                switch = gr.Checkbox(False, label="Refine with SAM", elem_id="refine", min_width=0,
                                     interactive=refiner is not None,
                                     info=f"{refiner.name} sharpens the edges" if refiner else LOAD_REFINER)
                with gr.Column(min_width=0):
                    line = gr.Slider(0, 100, 50, step=1, label="Before and after", show_label=False,
                                     elem_id="line", visible=False)
                    refinement = html("", "refinement")
            lengths = html("", "lengths", "length")
            with gr.Row(elem_id="strip"):
                upload = gr.UploadButton("Open picture", elem_id="upload", size="sm", scale=0, min_width=0)
                strip = html(views.examples_html(
                    (drawing.thumbnail_url(example.path), ", ".join(example.names)) for example in examples
                ), "examples", "example")
            known = html(questions.note_html(chat), "note", "text")
        with gr.Column(elem_id="chat-side", scale=5, min_width=320):
            conversation = html(views.conversation_html([]), "conversation")
            with gr.Column(elem_id="composer"):
                kind = gr.Radio(list(questions.KINDS), value=first_kind, label="What to ask",
                                show_label=False, container=False, elem_id="kind")
                suggested = questions.suggestions_html(first_kind, (), concepts)
                suggestions = html(suggested, "suggestions", "text")
                with gr.Row(elem_id="question-row"):
                    text = gr.Textbox(lines=1, max_lines=4, max_length=MAX_QUESTION, label="Question",
                                      show_label=False, container=False, elem_id="question",
                                      placeholder=questions.placeholder(first_kind))
                    send = gr.Button("Ask", variant="primary", elem_id="send", scale=0, min_width=80)
                    halt = gr.Button("Stop", elem_id="stop", scale=0, min_width=80, visible=False)
                with gr.Row(elem_id="sent-row"):
                    sent = html(questions.preview_html(first_kind, ""), "preview")
                    again = small_button("Retry", "retry")
                    wipe = small_button("Clear", "clear")

    following = [
        stage, legend, lengths, refinement, line, conversation, tools, length, send, halt, again, wipe,
    ]
    masks = following[:MASK_VIEWS]

    # ---- events
    def suggest(visitor: Visitor | None, kind: str) -> str:
        if visitor is None:
            return questions.suggestions_html(kind, (), concepts)
        turn = visitor.last_answer()
        about_one = turn is not None and len(turn.reply.objects) == 1
        return questions.suggestions_html(kind, visitor.names, concepts, about_one)

    def preview(visitor: Visitor | None, kind: str, text: str) -> str:
        return questions.preview_html(kind, text, () if visitor is None else visitor.last_mask())

    def invite(kind: str) -> gr.Textbox:
        return gr.Textbox(placeholder=questions.placeholder(kind))

    def pick_example(visitor: Visitor | None, event: gr.EventData) -> tuple[object, ...]:
        example = examples[int(event.chosen)]
        return open_picture(visitor, example.path, example.names)

    def pick_text(event: gr.EventData) -> str:
        return str(event.chosen)

    def pick_length(visitor: Visitor | None, event: gr.EventData) -> tuple[object, ...]:
        return int(event.chosen), *shorten(visitor, int(event.chosen))

    opened = [
        upload.upload(open_picture, [state, upload], following, **AT_ONCE),
        strip.pick(pick_example, [state], following, **AT_ONCE),
    ]
    for event in opened:
        event.success(suggest, [state, kind], suggestions, **AT_ONCE)
    kind.change(suggest, [state, kind], suggestions, **AT_ONCE)
    kind.change(invite, kind, text, **AT_ONCE)
    gr.on([kind.change, text.change], preview, [state, kind, text], sent,
          trigger_mode="always_last", **AT_ONCE)
    for texts in (suggestions, known):
        texts.pick(pick_text, None, text, **AT_ONCE)

    accepted = [
        gr.on([send.click, text.submit], accept, [state, kind, text], [text, *following], **AT_ONCE),
        again.click(retry, state, following, **AT_ONCE),
    ]
    for event in accepted:
        answered = event.success(answer, state, following, trigger_mode="multiple", **MODEL_QUEUE)
        finished = answered.then(finish, state, following, trigger_mode="multiple", **MASK_QUEUE)
        finished.then(suggest, [state, kind], suggestions, **AT_ONCE)
    halt.click(stop, state, following, **AT_ONCE)
    wipe.click(clear, state, following, **AT_ONCE).then(suggest, [state, kind], suggestions, **AT_ONCE)

    length.input(shorten, [state, length], masks, trigger_mode="always_last", **MASK_QUEUE)
    lengths.pick(pick_length, state, [length, *masks], **MASK_QUEUE)
    switch.input(refine, [state, switch], masks, **MASK_QUEUE)
    opacity.input(None, opacity, None, js=SET_OPACITY)
    line.input(None, line, None, js=SET_WIPE)
