"""What a visitor can ask: the kinds of question, the prompt each becomes, and what to suggest.

Knows which template a kind uses and what is worth suggesting. Wording is left to `himtok_core.prompts`, looks
to `views`.
"""

import re
from collections.abc import Sequence
from html import escape

from himtok_core import Chat, HimtokError, Prompt, PromptError, prompts

from . import views

FREE = "Question"
CHOICE = "Which is it?"
# What can be asked for -> the template it goes to the model with; None: the visitor's own words.
KINDS: dict[str, str | None] = {
    "Segment": "segment",
    "Segment + box": "segment_then_ground",
    "Box only": "ground",
    CHOICE: "choose",
    FREE: None,
}
QUESTIONS = ("What is in the picture?", "List everything and segment it.", "How many objects are there?")
# After an answer about one thing.
FOLLOW_UPS = ("And the one to its left?", "And the one to its right?", "Give me its box.", "What is it?")
SUGGESTIONS = 8
OPTIONS = 4  # of a suggested choice
PLACEHOLDERS = {FREE: "Ask anything about the picture", CHOICE: "Options: pig, lion, car"}


def make_prompt(kind: str, text: str, mask: Sequence[int] = ()) -> Prompt:
    """The question that goes to the model.

    mask: tokens of the mask that a choice is about; () while there is none.

    Raises PromptError for an empty text, tags inside a phrase, or a choice without a mask or between fewer
    than two things.
    """
    template = KINDS[kind]
    if template is None:
        return Prompt(text)
    if kind == CHOICE:
        if not mask:
            raise PromptError("There is no mask to ask about yet: segment something first.")
        options = [option.strip() for option in re.split("[,;\n]", text) if option.strip()]
        return Prompt(prompts.render(template, mask=mask, options=options))
    expects_mask = prompts.TEMPLATES[template].expects_mask
    return Prompt(prompts.render(template, phrase=text), expects_mask=expects_mask)


def placeholder(kind: str) -> str:
    return PLACEHOLDERS.get(kind, "Name a thing in the picture")


def preview_html(kind: str, text: str, mask: Sequence[int] = ()) -> str:
    """What would go to the model now, or why nothing can. Arguments as of `make_prompt`."""
    try:
        sent = views.prompt_html(make_prompt(kind, text, mask).text)
    except HimtokError as error:
        if text.strip():
            return f'<p class="problem">{escape(str(error))}</p>'
        template = KINDS[kind]
        sent = "your words, as they are"
        if kind == CHOICE:
            sent = "the last mask and what it may be, in lettered lines"
        elif template is not None:
            sent = views.prompt_html(prompts.render(template, phrase="…"))
    return f"<p><span>Prompt</span><code>{sent}</code></p>"


def suggestions_html(
    kind: str, names: Sequence[str], concepts: Sequence[str], about_one: bool = False
) -> str:
    """Texts for the question field: names that are known to be in the picture, then what the model knows.

    about_one: whether the last answer was about one thing, which "it" would mean now.
    """
    if kind == FREE:
        where = [f"Where is the {name}?" for name in names[:2]]
        return views.suggestions_html([*(FOLLOW_UPS if about_one else ()), *QUESTIONS, *where])
    known = list(dict.fromkeys([*names, *concepts]))
    if kind == CHOICE:
        # In the order of the alphabet: the right one should not always come first.
        groups = [known[:OPTIONS], [*known[:1], *known[OPTIONS : 2 * OPTIONS - 1]]]
        return views.suggestions_html(", ".join(sorted(group)) for group in groups if len(group) > 1)
    return views.suggestions_html(known[:SUGGESTIONS])


def concept_names(chat: Chat) -> tuple[str, ...]:
    """The names of what the model was trained on, if its folder says so."""
    return tuple(concept["name"] for concept in chat.concepts)


def note_html(chat: Chat) -> str:
    """One line on what a small model knows, and how to load one for photos; "" if the model has no list."""
    concepts = concept_names(chat)
    if not concepts:
        return ""
    return (f'<details><summary><b>{escape(chat.name)}</b> is small: it knows {len(concepts)} drawn things, '
            f"and no photos. <u>Details</u></summary>{views.suggestions_html(concepts)}"
            "<p>For photos, start the app with the 8B model of the paper on a GPU: "
            "<code>python app.py --model yayafengzi/InternVL2_5-HiMTok-8B</code></p></details>")
