"""How a person might ask with the turn before in mind: "now its box", "and the one to its left?".

`{it}` and `{its}` become "them" and "their" where that turn was about cherries; `{where}` is "to its left",
"above it" and the like. Questions that stand alone are in `wordings`.
"""

from .wordings import Wordings

ITS_MASK = Wordings(
    (),
    ("segment {it}", "mask {it}", "cut {it} out", "show me the mask of {it}", "highlight {it}"),
    ("and {its} mask?", "which pixels belong to {it}?"),
)
ITS_BOX = Wordings(
    (),
    ("give me {its} box", "draw a box around {it}", "put {it} in a box", "show {its} bounding box"),
    ("and {its} box?", "what is {its} box?"),
)
ITS_MASK_WITH_LENGTH = Wordings(
    (),
    (
        "segment {it} with {tokens} tokens",
        "mask {it} again in {tokens} tokens",
        "write {its} mask as {tokens} tokens",
        "cut {it} out using {tokens} tokens",
    ),
)
MASK_OF_ONE_BESIDE = Wordings(
    (),
    (
        "segment the one {where}",
        "mask the thing {where}",
        "cut out the one {where}",
        "show me the one {where}",
    ),
    ("and the one {where}?", "what about the one {where}?"),
)
BOX_OF_ONE_BESIDE = Wordings(
    (),
    (
        "box the one {where}",
        "draw a box around the one {where}",
        "give me the box of the thing {where}",
        "put the one {where} in a box",
    ),
    ("and the one {where}?", "what about the one {where}?"),
)
NAME_OF_ONE_BESIDE = Wordings(
    (),
    ("name the one {where}", "tell me what is {where}"),
    ("what is {where}?", "which thing is {where}?", "and what is {where}?", "what do you see {where}?"),
)
OTHER = Wordings(
    (),
    ("do the other one too", "take the other one", "do the same for the other one", "go on with the other"),
    ("and the other one?", "what about the other one?"),
)
ITS_NAME = Wordings(
    (),
    ("name it", "tell me what that is"),
    ("what is it?", "what is that?", "and what is it?", "which object is it?"),
)
ITS_COLOUR = Wordings(
    (),
    ("tell me its colour", "name its colour"),
    ("what colour is it?", "which colour does it have?", "and its colour?", "what is its color?"),
)
HOW_MANY_OF_THEM = Wordings(
    (),
    ("count them", "tell me how many of them there are", "say how many there are"),
    ("how many of them are there?", "how many of those do you see?", "and how many are there?"),
)
THE_SAME_FOR = Wordings(
    (),
    ("do the same for {thing}", "do {thing} too", "go on with {thing}", "take {thing} next"),
    ("and {thing}?", "what about {thing}?", "how about {thing}?"),
)
