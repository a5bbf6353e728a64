"""How a person might ask, in plain words without tags: several wordings for each kind of question.

`{thing}` is a phrase with its article ("the lemon", "all lemons"), `{phrase}` the same without; `{things}` is
a plural. Knows no scenes; the paper's own templates are in `himtok_core.prompts`.
"""

MASK = (
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
)
MASK_THEN_BOX = (
    "Segment {thing} and give its box.",
    "Give me the mask and the box of {thing}.",
    "Show me {thing} with mask and box.",
    "Mark {thing}, then draw a box around it.",
    "I want the mask and the box of {thing}.",
)
MASK_WITH_LENGTH = (
    "Segment {thing} with {tokens} tokens.",
    "Give me the mask of {thing} in {tokens} tokens.",
    "Mark {thing} by {tokens} tokens.",
    "Show me {thing} with {tokens} mask tokens.",
    "Use {tokens} tokens for the mask of {thing}.",
)
BOX = (
    "Draw a box around {thing}.",
    "Give me the box of {thing}.",
    "Put a box around {thing}, please.",
    "What is the bounding box of {thing}?",
    "I want the box of {thing}.",
    "Can you find the box of {thing}?",
)
MASK_FROM_BOX = (
    "Segment the object in <box>{box}</box>.",
    "Give me the mask of the object in <box>{box}</box>.",
    "Segment what is inside <box>{box}</box>.",
    "Mark the object in the box <box>{box}</box>.",
    "Show me the object inside <box>{box}</box>.",
)
MASK_FROM_POINTS = (
    "Segment the object at {points}.",
    "Give me the mask of the object at {points}.",
    "Segment what is at {points}.",
    "Mark the object at {points}.",
    "Show me the object at {points}.",
)
COUNT = (
    "How many {things} are there?",
    "How many {things} are in the picture?",
    "Count the {things}.",
    "How many {things} do you see?",
    "What is the number of {things}?",
)
COLOUR = (
    "What colour is {thing}?",
    "What color is {thing}?",
    "Which colour does {thing} have?",
    "What is the colour of {thing}?",
    "Tell me the colour of {thing}.",
)
WHAT_AT_POINT = (
    "What is at {points}?",
    "What do you see at {points}?",
    "Which object is at {points}?",
    "Name the object at {points}.",
    "What is the object at {points}?",
)
WHAT_IN_BOX = (
    "What is in <box>{box}</box>?",
    "What do you see in <box>{box}</box>?",
    "Which object is in <box>{box}</box>?",
    "Name the object in <box>{box}</box>.",
    "What is the object inside <box>{box}</box>?",
)
WHERE = (
    "Where is {thing}?",
    "Where do you see {thing}?",
    "Can you find {thing}?",
    "In which part of the picture is {thing}?",
    "Find {thing}.",
    "Tell me where {thing} is.",
)
WHERE_MANY = tuple(
    wording.replace("is {thing}", "are {thing}").replace("{thing} is", "{thing} are") for wording in WHERE
)
IS_THERE = (
    "Is there {one}?",
    "Is there {one} in the picture?",
    "Do you see {one}?",
    "Can you see {one} in the picture?",
    "Does the picture show {one}?",
)
IS_THERE_MANY = tuple(wording.replace("Is there", "Are there") for wording in IS_THERE)
IS_COLOUR = (
    "Is {thing} {colour}?",
    "Is the colour of {thing} {colour}?",
    "Is it true that {thing} is {colour}?",
)
IS_RELATED = ("Is {thing} {relation} {other}?", "Is it true that {thing} is {relation} {other}?")
DESCRIBE = (
    "What do you see?",
    "What is in the picture?",
    "Describe the picture.",
    "What does the picture show?",
    "Name all objects.",
    "List everything in the picture.",
    "Which objects are there?",
)
WHICH_MASK = (
    "What does the mask <mask> show?\n{options}",
    "Which of these is the mask <mask>?\n{options}",
    "What is in the mask <mask>?\n{options}",
    "<mask>\nWhat is this?\n{options}",
    "Which object has the mask <mask>?\n{options}",
)
