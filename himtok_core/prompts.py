"""The templates of the paper's supplement, tables 14 to 20, and a few more, as data, rendered by name.

Knows the wording and which slot takes what. Which question suits a task, and what a model answers, is left to
others. The wording is the supplement's to the letter, curly apostrophes included; a model was trained on it.
Boxes and points are written on the 0-1000 scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from string import Formatter

from . import markup
from .errors import MaskError, PromptError


@dataclass(frozen=True)
class Template:
    """One way to ask or to answer, in several wordings.

    source: where the wording comes from. variants: the wordings, slots in braces; all have the same slots.
    expects_mask: whether the answer to it (or the response itself) holds a mask run. response: the name of
    the matching response template; None for a response.
    """

    source: str
    variants: tuple[str, ...]
    expects_mask: bool
    response: str | None = None

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots, in the order of the text."""
        return tuple(field for _, field, _, _ in Formatter().parse(self.variants[0]) if field is not None)


TEMPLATES: dict[str, Template] = {
    "segment_then_ground": Template(
        "table 14",
        (
            "First create the segmentation mask for <ref>{phrase}</ref>, then identify its bounding box.",
            "Begin by generating the mask for <ref>{phrase}</ref>, "
            "followed by determining its box coordinates.",
            "Start with the detailed mask of <ref>{phrase}</ref>, then locate its containing box.",
            "Initially segment <ref>{phrase}</ref>, then find its bounding box region.",
            "First produce the mask for <ref>{phrase}</ref>, then specify its box location.",
            "Commence with the mask of <ref>{phrase}</ref>, then determine its box boundaries.",
            "Start by segmenting <ref>{phrase}</ref>, then outline its bounding region.",
            "First extract the mask of <ref>{phrase}</ref>, then mark its box coordinates.",
            "Begin with the precise mask for <ref>{phrase}</ref>, then identify its box location.",
            "Initially create the mask for <ref>{phrase}</ref>, then define its bounding box.",
        ),
        expects_mask=True,
        response="segment_then_ground_response",
    ),
    "segment_then_ground_response": Template(
        "table 15",
        (
            "Certainly, you can find the mask at {mask}, and the box is represented as <box>{box}</box>.",
            "Of course, the mask located is {mask}, while the box is shown as <box>{box}</box>.",
            "Absolutely, the mask is situated at {mask}, with the box described as <box>{box}</box>.",
            "Sure, the mask appears at {mask}, and here’s the box: <box>{box}</box>.",
            "Indeed, the mask can be found at {mask}, with the box marked as <box>{box}</box>.",
            "OK, the mask is at {mask}, and the box is indicated as <box>{box}</box>.",
            "Affirmative, you have the mask at {mask}, and the box is designated <box>{box}</box>.",
            "Got it, the mask is at {mask}, and you will see the box like <box>{box}</box>.",
            "Sure, the mask appears at {mask}, and here is the box represented: <box>{box}</box>.",
            "Yes indeed, find the mask at {mask}, and the box outlined as <box>{box}</box>.",
        ),
        expects_mask=True,
    ),
    "segment_from_box_and_points": Template(
        "table 16",
        (
            "Generate the segmentation mask for the object located within the bounding box <box>{box}</box> "
            "and at the points {points} in the provided image.",
            "Extract the mask for the object inside the <box>{box}</box> bounding box "
            "and corresponding to the points {points} in the given image.",
            "Create the mask for the object found in the region defined by <box>{box}</box> "
            "and identified by the points {points} in this image.",
            "Identify the object mask within the bounding box <box>{box}</box> "
            "and marked by the points {points} in the image.",
            "Acquire the segmentation mask of the object enclosed by <box>{box}</box> "
            "and situated at the points {points} in the image.",
            "Determine the mask for the object that is located within the area specified by <box>{box}</box> "
            "and identified by the points {points} in the image.",
            "Produce the mask for the object situated in the <box>{box}</box> box "
            "and at the points {points} within the image.",
            "Locate the mask for the object that lies inside the <box>{box}</box> boundaries "
            "and corresponds to the points {points} in the image.",
            "Segment the mask for the object found within the bounds of <box>{box}</box> "
            "and marked at the points {points} in the given image.",
            "Outline the mask of the object residing within the box <box>{box}</box> "
            "and corresponding to the points {points} in the image.",
        ),
        expects_mask=True,
        response="segment_response",
    ),
    "segment_from_points": Template(
        "table 17",
        (
            "Generate the segmentation mask for the object located at the points {points} "
            "in the provided image.",
            "Extract the mask for the object that corresponds to the points {points} in the given image.",
            "Create the mask for the object identified by the points {points} in this image.",
            "Identify the object mask corresponding to the points {points} in the image.",
            "Acquire the segmentation mask of the object marked at the points {points} in the image.",
            "Determine the mask for the object located at the specified points {points} in the image.",
            "Produce the mask for the object situated at the points {points} within the image.",
            "Locate the mask for the object that is identified by the points {points} in the image.",
            "Segment the mask for the object found at the points {points} in the given image.",
            "Outline the mask of the object located at the specified points {points} in the image.",
        ),
        expects_mask=True,
        response="segment_response",
    ),
    "segment_response": Template(
        "table 18",
        (
            "Certainly, the mask is located at {mask}.",
            "Of course, you can find the mask at {mask}.",
            "Absolutely, the mask is available at {mask}.",
            "Sure, the mask is positioned at {mask}.",
            "Indeed, the mask appears at {mask}.",
            "OK, the mask is situated at {mask}.",
            "Affirmative, the mask can be found at {mask}.",
            "Got it, the mask is at {mask}.",
            "Sure, the mask is present at {mask}.",
            "Yes indeed, you will find the mask at {mask}.",
        ),
        expects_mask=True,
    ),
    "segment_with_length": Template(
        "table 19",
        (
            "First create the segmentation mask for <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then identify its bounding box.",
            "Begin by generating the mask for <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "followed by determining its box coordinates.",
            "Start with the detailed mask of <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then locate its containing box.",
            "Initially segment <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then find its bounding box region.",
            "First produce the mask for <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then specify its box location.",
            "Commence with the mask of <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then determine its box boundaries.",
            "Start by segmenting <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then outline its bounding region.",
            "First extract the mask of <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then mark its box coordinates.",
            "Begin with the precise mask for <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then identify its box location.",
            "Initially create the mask for <ref>{phrase}</ref>{detail} by {tokens} tokens, "
            "then define its bounding box.",
        ),
        expects_mask=True,
        response="segment_then_ground_response",
    ),
    "ground": Template(
        "table 20, instructions",
        (
            "Please provide the bounding box of <ref>{phrase}</ref>.",
            "Locate the bounding box for <ref>{phrase}</ref>.",
            "Identify the box coordinates of <ref>{phrase}</ref>.",
            "Determine the bounding region for <ref>{phrase}</ref>.",
            "Find the box boundaries of <ref>{phrase}</ref>.",
            "Mark the box location of <ref>{phrase}</ref>.",
            "Specify the box coordinates for <ref>{phrase}</ref>.",
            "Outline the bounding box of <ref>{phrase}</ref>.",
            "Can you show the box for <ref>{phrase}</ref>?",
        ),
        expects_mask=False,
        response="ground_response",
    ),
    "ground_response": Template(
        "table 20, responses",
        (
            "Certainly, the box is located at <box>{box}</box>.",
            "Of course, here’s the bounding box: <box>{box}</box>.",
            "The requested box coordinates are <box>{box}</box>.",
            "Found the bounding region: <box>{box}</box>.",
            "Here’s the box location: <box>{box}</box>.",
            "The object’s box is marked as <box>{box}</box>.",
            "Bounding box determined: <box>{box}</box>.",
            "Located the boundaries at <box>{box}</box>.",
        ),
        expects_mask=False,
    ),
    "segment": Template(
        "the released model",
        ("Segment <ref>{phrase}</ref>.",),
        expects_mask=True,
        response="released_response",
    ),
    # Variant 0 takes a whole sentence, variant 1 a phrase that is none.
    "reason": Template(
        "the released model",
        (
            "{phrase}\nWhat is the object and mask in the image?",
            "What is {phrase}?\nWhat is the object and mask in the image?",
        ),
        expects_mask=True,
        response="released_response",
    ),
    "released_response": Template(
        "the released model",
        ("The mask appears at {mask}.",),
        expects_mask=True,
    ),
    # Mask Perception: the supplement states the task and no wording. The answer is a letter.
    "choose": Template(
        "section E, in our words",
        ("What does the mask {mask} show?\n{options}",),
        expects_mask=False,
    ),
}
LETTERS = "ABCDE"  # of the options of a choice


def names() -> tuple[str, ...]:
    """The names of all templates, instructions and responses."""
    return tuple(TEMPLATES)


def render(name: str, *, variant: int = 0, **slots: object) -> str:
    """Fills a template. `variant` chooses the wording, counted from 0 in the order of the table.

    Slots: phrase: a non-empty text; detail: a text, may be empty, directly after the phrase; points: (x, y)
    pairs and box: one (x1, y1, x2, y2) or several, numbers on the 0-1000 scale; mask: 1 to 32 token ids;
    tokens: the number of mask tokens asked for, 1 to 32; options: 2 to 5 different phrases. Raises
    PromptError, which names the template or the slot that is unknown, missing, extra or of the wrong kind.
    """
    if name not in TEMPLATES:
        raise PromptError(f"There is no template {name!r}. Templates: {', '.join(TEMPLATES)}.")
    template = TEMPLATES[name]
    if variant not in range(len(template.variants)):
        raise PromptError(f"The template {name!r} has the variants 0 to {len(template.variants) - 1}, "
                          f"not {variant!r}.")
    for slot in template.slots:
        if slot not in slots:
            raise PromptError(f"The slot {slot!r} of the template {name!r} is missing.")
    for slot in slots:
        if slot not in template.slots:
            known = ", ".join(template.slots)
            raise PromptError(f"The template {name!r} has no slot {slot!r}, only {known}.")
    written = {}
    for slot, value in slots.items():
        try:
            written[slot] = _WRITERS[slot](value)
        except (MaskError, TypeError, ValueError) as error:
            message = f"The slot {slot!r} of the template {name!r} cannot be filled: {error}"
            raise PromptError(message) from error
    return template.variants[variant].format(**written)


def _write_phrase(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("It needs a phrase such as 'red apple'.")
    return _write_detail(value.strip())


def _write_detail(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"It needs text, not {value!r}.")
    spans = markup.parse(value)
    if any(not isinstance(span, markup.TextSpan) or span.problem for span in spans):
        raise ValueError("Tags such as <ref>, <box> or mask tokens cannot stand inside it.")
    return value


def lettered(options: Sequence[str]) -> str:
    """The options of a choice, a line each: "A. lion", "B. pig", ... At most as many as LETTERS."""
    lines = zip(LETTERS[: len(options)], options, strict=True)
    return "\n".join(f"{letter}. {text}" for letter, text in lines)


def _write_options(value: object) -> str:
    options = [] if isinstance(value, str) else [_write_phrase(option) for option in value]
    if not 2 <= len(options) <= len(LETTERS) or len(set(options)) < len(options):
        raise ValueError(f"It needs 2 to {len(LETTERS)} different phrases, not {value!r}.")
    return lettered(options)


def _write_box(value: Sequence) -> str:
    several = len(value) > 0 and hasattr(value[0], "__len__")
    return markup.format_box_list(value if several else [value])


def _write_tokens(value: object) -> str:
    if not isinstance(value, Integral) or not 1 <= value <= markup.MAX_RUN:
        raise ValueError(f"It needs a number of mask tokens from 1 to {markup.MAX_RUN}, not {value!r}.")
    return str(value)


_WRITERS: dict[str, Callable[..., str]] = {
    "phrase": _write_phrase,
    "detail": _write_detail,
    "box": _write_box,
    "points": markup.format_points,
    "mask": markup.mask_run,
    "tokens": _write_tokens,
    "options": _write_options,
}
