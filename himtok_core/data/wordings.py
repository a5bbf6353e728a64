"""How a person might ask, in plain words without tags: many wordings for each kind of question.

`{thing}` is a phrase with its article ("the lemon", "all lemons"), `{phrase}` the same without; `{things}` is
a plural, `{one}` a name with "a". Knows no scenes. The paper's own templates are in `himtok_core.prompts`,
what leans on an earlier turn in `leaning_wordings`.
"""

from dataclasses import dataclass
from functools import cached_property

# What people put around a task ("segment the lemon") and around a question ("where is the lemon?").
_AROUND_A_TASK = (
    "{Do}.",
    "Please {do}.",
    "{Do}, please.",
    "Can you {do}?",
    "Could you {do}?",
    "Would you {do}?",
    "I want you to {do}.",
    "Now {do}.",
)
_SHORT = ("and ", "what about ", "how about ")  # such questions stand alone
_BEFORE_A_QUESTION = ("", "Tell me: ", "Look closely: ", "In this picture, ", "I would like to know: ")


@dataclass(frozen=True)
class Wordings:
    """The wordings of one kind of question.

    Attributes:
        whole: complete ones.
        tasks, questions: cores that other wordings are made of, in small letters at the start; a task has no
            full stop, a question has its question mark.
    """

    whole: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    @cached_property
    def every(self) -> tuple[str, ...]:
        """All wordings, each once."""
        found = list(self.whole)
        for task in self.tasks:
            for around in _AROUND_A_TASK:
                found.append(around.replace("{Do}", _capital(task)).replace("{do}", task))
        for question in self.questions:
            short = question.startswith(_SHORT)
            befores = _BEFORE_A_QUESTION[:1] if short else _BEFORE_A_QUESTION
            found += [before + question if before else _capital(question) for before in befores]
        return tuple(dict.fromkeys(found))


def _capital(text: str) -> str:
    return text if text.startswith("{") else text[0].upper() + text[1:]


MASK = Wordings(
    (
        "Segment {thing}.",
        "Show me {thing}.",
        "Mark {thing}.",
        "Can you segment {thing}?",
        "Please cut out {thing}.",
        "Give me the mask of {thing}.",
        "Highlight {thing}, please.",
        "I want the mask of {thing}.",
        "Which pixels belong to {thing}?",
        "{phrase}",
    ),
    (
        "segment {thing}",
        "cut out {thing}",
        "mask {thing}",
        "highlight {thing}",
        "outline {thing}",
        "select {thing}",
        "mark every pixel of {thing}",
        "find {thing} and segment it",
    ),
    (
        "which pixels belong to {thing}?",
        "where exactly is {thing}, pixel by pixel?",
    ),
)
MASK_THEN_BOX = Wordings(
    (
        "Segment {thing} and give its box.",
        "Give me the mask and the box of {thing}.",
        "Show me {thing} with mask and box.",
        "Mark {thing}, then draw a box around it.",
        "I want the mask and the box of {thing}.",
    ),
    (
        "segment {thing} and give its box",
        "give me mask and box of {thing}",
        "mask {thing}, then box it",
        "cut out {thing} and tell me its box",
        "first segment {thing}, then draw its box",
    ),
    (),
)
MASK_WITH_LENGTH = Wordings(
    (
        "Segment {thing} with {tokens} tokens.",
        "Give me the mask of {thing} in {tokens} tokens.",
        "Mark {thing} by {tokens} tokens.",
        "Show me {thing} with {tokens} mask tokens.",
        "Use {tokens} tokens for the mask of {thing}.",
    ),
    (
        "segment {thing} with {tokens} tokens",
        "mask {thing} using {tokens} tokens",
        "cut out {thing} in {tokens} tokens",
        "write the mask of {thing} as {tokens} tokens",
        "give me {tokens} mask tokens for {thing}",
    ),
    (),
)
BOX = Wordings(
    (
        "Draw a box around {thing}.",
        "Give me the box of {thing}.",
        "Put a box around {thing}, please.",
        "What is the bounding box of {thing}?",
        "I want the box of {thing}.",
        "Can you find the box of {thing}?",
    ),
    (
        "draw a box around {thing}",
        "box {thing}",
        "give me the bounding box of {thing}",
        "find {thing} and draw its box",
        "frame {thing} with a box",
    ),
    (
        "what is the box of {thing}?",
        "what are the box coordinates of {thing}?",
    ),
)
MASK_FROM_BOX = Wordings(
    (
        "Segment the object in <box>{box}</box>.",
        "Give me the mask of the object in <box>{box}</box>.",
        "Segment what is inside <box>{box}</box>.",
        "Mark the object in the box <box>{box}</box>.",
        "Show me the object inside <box>{box}</box>.",
    ),
    (
        "segment the object in <box>{box}</box>",
        "cut out what is inside <box>{box}</box>",
        "mask the thing in <box>{box}</box>",
        "highlight the object within <box>{box}</box>",
    ),
    ("which pixels inside <box>{box}</box> belong to the object?",),
)
MASK_FROM_POINTS = Wordings(
    (
        "Segment the object at {points}.",
        "Give me the mask of the object at {points}.",
        "Segment what is at {points}.",
        "Mark the object at {points}.",
        "Show me the object at {points}.",
    ),
    (
        "segment the object at {points}",
        "cut out what is at {points}",
        "mask the thing under {points}",
        "highlight the object that I clicked at {points}",
    ),
    ("which pixels belong to the object at {points}?",),
)
COUNT = Wordings(
    (
        "How many {things} are there?",
        "How many {things} are in the picture?",
        "Count the {things}.",
        "How many {things} do you see?",
        "What is the number of {things}?",
    ),
    (
        "count the {things}",
        "tell me how many {things} there are",
    ),
    (
        "how many {things} are there?",
        "how many {things} can you see?",
        "how many {things} does the picture show?",
        "what is the number of {things}?",
    ),
)
COLOUR = Wordings(
    (
        "What colour is {thing}?",
        "What color is {thing}?",
        "Which colour does {thing} have?",
        "What is the colour of {thing}?",
        "Tell me the colour of {thing}.",
    ),
    (
        "tell me the colour of {thing}",
        "name the colour of {thing}",
        "tell me which colour {thing} has",
    ),
    (
        "what colour is {thing}?",
        "what is the color of {thing}?",
        "which colour does {thing} have?",
    ),
)
WHAT_AT_POINT = Wordings(
    (
        "What is at {points}?",
        "What do you see at {points}?",
        "Which object is at {points}?",
        "Name the object at {points}.",
        "What is the object at {points}?",
    ),
    (
        "name the object at {points}",
        "tell me what is at {points}",
        "identify the thing at {points}",
    ),
    (
        "what is at {points}?",
        "what object did I click at {points}?",
        "which thing is under {points}?",
    ),
)
WHAT_IN_BOX = Wordings(
    (
        "What is in <box>{box}</box>?",
        "What do you see in <box>{box}</box>?",
        "Which object is in <box>{box}</box>?",
        "Name the object in <box>{box}</box>.",
        "What is the object inside <box>{box}</box>?",
    ),
    (
        "name the object in <box>{box}</box>",
        "tell me what is in <box>{box}</box>",
        "identify the thing inside <box>{box}</box>",
    ),
    (
        "what is in <box>{box}</box>?",
        "which thing does <box>{box}</box> contain?",
        "what does the box <box>{box}</box> show?",
    ),
)
WHERE = Wordings(
    (
        "Where is {thing}?",
        "Where do you see {thing}?",
        "Can you find {thing}?",
        "In which part of the picture is {thing}?",
        "Find {thing}.",
        "Tell me where {thing} is.",
    ),
    (
        "find {thing}",
        "locate {thing}",
        "tell me where {thing} is",
        "show me where {thing} is",
    ),
    (
        "where is {thing}?",
        "in which part of the picture is {thing}?",
    ),
)
WHERE_MANY = Wordings(
    tuple(w.replace("is {thing}", "are {thing}").replace("{thing} is", "{thing} are") for w in WHERE.whole),
    tuple(w.replace("{thing} is", "{thing} are") for w in WHERE.tasks),
    tuple(w.replace("is {thing}", "are {thing}") for w in WHERE.questions),
)
IS_THERE = Wordings(
    (
        "Is there {one}?",
        "Is there {one} in the picture?",
        "Do you see {one}?",
        "Can you see {one} in the picture?",
        "Does the picture show {one}?",
    ),
    (
        "tell me whether there is {one}",
        "say if you see {one}",
    ),
    (
        "is there {one}?",
        "do you see {one}?",
        "does the picture show {one}?",
        "is there {one} anywhere?",
    ),
)
IS_THERE_MANY = Wordings(
    tuple(wording.replace("Is there", "Are there") for wording in IS_THERE.whole),
    tuple(wording.replace("there is", "there are") for wording in IS_THERE.tasks),
    tuple(wording.replace("is there", "are there") for wording in IS_THERE.questions),
)
IS_COLOUR = Wordings(
    (
        "Is {thing} {colour}?",
        "Is the colour of {thing} {colour}?",
        "Is it true that {thing} is {colour}?",
    ),
    (
        "tell me whether {thing} is {colour}",
        "say if {thing} is {colour}",
    ),
    (
        "is {thing} {colour}?",
        "would you call {thing} {colour}?",
        "is it true that {thing} is {colour}?",
    ),
)
IS_RELATED = Wordings(
    (
        "Is {thing} {relation} {other}?",
        "Is it true that {thing} is {relation} {other}?",
    ),
    (
        "tell me whether {thing} is {relation} {other}",
        "say if {thing} is {relation} {other}",
    ),
    (
        "is {thing} {relation} {other}?",
        "do you see {thing} {relation} {other}?",
        "is it right that {thing} is {relation} {other}?",
    ),
)
DESCRIBE = Wordings(
    (
        "What do you see?",
        "What is in the picture?",
        "Describe the picture.",
        "What does the picture show?",
        "Name all objects.",
        "List everything in the picture.",
        "Which objects are there?",
    ),
    (
        "describe the picture",
        "name everything in the picture",
        "tell me what the picture shows",
        "list all objects",
    ),
    (
        "what do you see?",
        "what is in the picture?",
    ),
)
WHICH_MASK = Wordings(
    (
        "What does the mask <mask> show?\n{options}",
        "Which of these is the mask <mask>?\n{options}",
        "What is in the mask <mask>?\n{options}",
        "<mask>\nWhat is this?\n{options}",
        "Which object has the mask <mask>?\n{options}",
    ),
    (),
    (
        "which of these does the mask <mask> show?\n{options}",
        "what is the object with the mask <mask>?\n{options}",
        "which description fits the mask <mask>?\n{options}",
        "what does <mask> cover?\n{options}",
        "which name is right for <mask>?\n{options}",
        "what have I marked with <mask>?\n{options}",
    ),
)
MASK_FROM_BOX_AND_POINTS = Wordings(
    (),
    (
        "segment the object in <box>{box}</box> at {points}",
        "cut out what is at {points} inside <box>{box}</box>",
        "mask the thing in <box>{box}</box> that I clicked at {points}",
        "highlight the object within <box>{box}</box>, at {points}",
    ),
)
LIST_MASKS = Wordings(
    (),
    (
        "list everything and segment it",
        "segment every object and say what it is",
        "name all things in the picture with their masks",
        "describe the picture and mask each object",
        "mark all objects one by one",
    ),
    ("what is in the picture, and which pixels is each thing?",),
)
