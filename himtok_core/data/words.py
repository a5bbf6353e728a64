"""The little English that questions about drawn things need: plurals, articles, numbers of things.

Knows words and nothing about scenes.
"""

import re

_ARTICLES = {"a", "an", "the"}
_OPENERS = (" of ", " with ", " in ", " on ", " behind ")  # what follows these describes the noun before them
_SAME = {"fish", "sheep", "deer", "shrimp", "squid", "bison", "broccoli", "popcorn", "rice", "bread", "sushi"}
# fmt: off
_UNCOUNTABLE = {
    "bacon", "bread", "broccoli", "butter", "cheese", "corn", "curry", "custard", "dna", "fire",
    "garlic", "ice", "luggage", "paella", "popcorn", "rice", "sake", "salad", "salt", "spaghetti",
    "stew", "sushi", "wood", "yarn",
}
# fmt: on
_IRREGULAR = {
    "child": "children",
    "die": "dice",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "potato": "potatoes",
    "scarf": "scarves",
    "tomato": "tomatoes",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULAR_IN_S = {"atlas", "canvas", "christmas", "claus", "gas", "lens", "rhinoceros"}
_SAID_AS_CONSONANT = ("eu", "one", "ufo", "uku", "uni", "us")

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def is_plural(name: str) -> bool:
    """Whether a name is a plural already, as "cherries" or "bunches of grapes" are."""
    word = _split(name)[1]
    return word == "skis" or (
        word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _SINGULAR_IN_S
    )


def is_uncountable(name: str) -> bool:
    """Whether a name is of something that nobody counts, as "bread"."""
    return _split(name)[1] in _UNCOUNTABLE


def plural(name: str) -> str:
    """ "slice of pizza" -> "slices of pizza", "butterfly" -> "butterflies"; a plural stays as it is."""
    before, word, after = _split(name)
    if is_plural(name) or word in _SAME or word in _UNCOUNTABLE:
        return name
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif word.endswith(("s", "x", "z", "ch", "sh")):
        word += "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        word = word[:-1] + "ies"
    else:
        word += "s"
    return before + word + after


def a(name: str) -> str:
    """With the indefinite article: "a lemon", "an octopus", and "cherries" or "bread" as they are."""
    if is_plural(name) or is_uncountable(name):
        return name
    vowel = name[0] in "aeiou" and not name.startswith(_SAID_AS_CONSONANT)
    return f"{'an' if vowel or name.startswith('hour') else 'a'} {name}"


def several(count: int, name: str) -> str:
    """ "a lemon" for one, "3 lemons" for more."""
    return a(name) if count == 1 else f"{count} {plural(name)}"


def listing(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _split(name: str) -> tuple[str, str, str]:
    """The noun of a name with what stands before and after it: ("red ", "slice", " of pizza")."""
    end = min((at for at in map(name.find, _OPENERS) if at >= 0), default=len(name))
    start = name.rfind(" ", 0, end) + 1
    return name[:start], name[start:end], name[end:]


def plain(text: str) -> str:
    """A text in small letters without punctuation, articles and double spaces, to compare it with another."""
    words = re.sub(r"[^\w\s]", " ", text.lower().replace("'", "").replace("’", "")).split()
    return " ".join(word for word in words if word not in _ARTICLES)
