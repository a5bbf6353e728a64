"""Questions that are answered in words, one function for each skill.

Each takes an `Asking` and the name of the kind, and gives a `Question`, or None where the scene does not
support it.
"""

from .. import markup
from ..prompts import LETTERS, lettered
from . import answers, references, wordings, words
from .answers import Question
from .asking import Asking


def count(asking: Asking, kind: str) -> Question | None:
    """Things of a name, figures of a shape, or all objects; now and then of something that is not there."""
    scene = asking.scene
    names = [word for item in scene.objects for word in (item.name, item.shape) if word is not None]
    style = asking.rng.random()
    if style < 0.15:
        name = asking.absent_name()
    else:
        name = "object" if style < 0.35 else asking.choose(names)
    if name is None or words.is_plural(name) or words.is_uncountable(name):
        return None  # nobody counts "cherries"
    found = tuple(range(len(scene.objects))) if name == "object" else references.matching(scene, name)
    prompt = asking.say(wordings.COUNT, things=words.plural(name))
    answer = answers.number_of(len(found), name) if found else answers.none_of(name)
    return Question(kind, prompt, answer, target=found)


def colour_of(asking: Asking, kind: str) -> Question | None:
    """Only plain figures have one colour; the phrase must not say it already."""
    scene = asking.scene
    ways = (references.by_colour_or_shape, references.by_position, references.by_relation, references.by_size)
    found = [
        reference
        for way in ways
        for reference in way(scene)
        if scene.objects[reference.target[0]].colour not in (None, *reference.phrase.split())
    ]
    reference = asking.pick_specific(found)
    if reference is None:
        return None
    answer = answers.colour_of(scene.objects[reference.target[0]])
    return Question(kind, asking.say(wordings.COLOUR, reference), answer, target=reference.target)


def what_is_at(asking: Asking, kind: str) -> Question | None:
    """A point, a box or a mask -> the name of what is there."""
    way = asking.choose(("point", "box", "mask"))
    target = asking.clear_box() if way == "box" else asking.any_object()
    if target is None:
        return None
    item, shown = asking.scene.objects[target], ()
    if way == "box":
        prompt = asking.say(wordings.WHAT_IN_BOX, box=answers.box_text(asking.scene, target))
    elif way == "point":
        points = asking.points(target, 1)
        if points is None:
            return None
        prompt = asking.say(wordings.WHAT_AT_POINT, points=markup.format_points(points))
    else:
        prompt, shown = asking.say(wordings.WHAT_AT_POINT, points=answers.MASK), (item.mask,)
    return Question(kind, prompt, answers.identity(item.name), shown, target=(target,))


def where_is(asking: Asking, kind: str) -> Question | None:
    """The part of the picture, in words, and the box."""
    reference = asking.pick(references.by_name(asking.scene))
    if reference is None:
        return None
    many = words.is_plural(reference.phrase)
    prompt = asking.say(wordings.WHERE_MANY if many else wordings.WHERE, reference)
    box = answers.box_text(asking.scene, reference.target[0])
    where = answers.place(asking.scene, reference.target[0])
    thing = reference.thing[0].upper() + reference.thing[1:]
    answer = f"{thing} {'are' if many else 'is'} {where}, <box>{box}</box>."
    return Question(kind, prompt, answer, target=reference.target)


def yes_no(asking: Asking, kind: str) -> Question | None:
    """Presence mostly, also colour and relation; yes and no equally often."""
    yes = bool(asking.rng.random() < 0.5)
    style = asking.rng.random()
    if style < 0.25:
        return _is_colour(asking, kind, yes)
    if style < 0.5:
        return _is_related(asking, kind, yes)
    present = [item.name for item in asking.scene.objects]
    name = asking.choose(present) if yes else asking.absent_name()
    if name is None:
        return None
    many = words.is_plural(name)
    prompt = asking.say(wordings.IS_THERE_MANY if many else wordings.IS_THERE, one=words.a(name))
    if not yes:
        return Question(kind, prompt, f"No. {answers.none_of(name)}")
    answer = f"Yes. There {'are' if many else 'is'} {words.a(name)} in the picture."
    return Question(kind, prompt, answer, target=references.matching(asking.scene, name))


def _is_colour(asking: Asking, kind: str, yes: bool) -> Question | None:
    scene = asking.scene
    shapes = [item.shape for item in scene.objects if item.shape is not None]
    reference = asking.pick([r for r in references.by_colour_or_shape(scene) if r.phrase in shapes])
    if reference is None:
        return None
    item = scene.objects[reference.target[0]]
    others = [colour for colour in asking.world.colours if colour != item.colour]
    asked = item.colour if yes else asking.choose(others)
    answer = f"{'Yes' if yes else 'No'}. {answers.colour_of(item)}"
    prompt = asking.say(wordings.IS_COLOUR, reference, colour=asked)
    return Question(kind, prompt, answer, target=reference.target)


def _is_related(asking: Asking, kind: str, yes: bool) -> Question | None:
    named = references.by_name(asking.scene)
    found = [
        (one, relation, other)
        for one in named
        for other in named
        for relation in references.RELATIONS
        if one is not other
        and not words.is_plural(one.phrase)
        and references.holds(asking.scene, one.target[0], relation, other.target[0]) is yes
    ]
    if not found:
        return None
    one, relation, other = found[asking.rng.integers(len(found))]
    prompt = asking.say(wordings.IS_RELATED, one, relation=relation, other=other.thing)
    answer = f"Yes. The {one.phrase} is" if yes else f"No. The {one.phrase} is not"
    return Question(kind, prompt, f"{answer} {relation} {other.thing}.", target=one.target + other.target)


def describe(asking: Asking, kind: str) -> Question:
    """Names everything."""
    answer, order = answers.description(asking.scene)
    return Question(kind, asking.say(wordings.DESCRIBE), answer, target=order)


def mask_perception(asking: Asking, kind: str) -> Question | None:
    """A mask and two to five phrases, one of which is true of it."""
    scene, target = asking.scene, asking.any_object()
    true = {
        reference.phrase
        for way in (references.by_name, references.by_position, references.by_size)
        for reference in way(scene)
        if reference.target == (target,)
    }
    if not true:
        return None
    item = scene.objects[target]
    name = item.name
    right = name if name in true and asking.rng.random() < 0.6 else asking.choose(sorted(true))
    wrong = {other.name for other in scene.objects if not references.answers_to(item, other.name)}
    if right != name:  # a phrase about the place is only wrong of things that are somewhere else
        ways = (references.by_position, references.by_size)
        wrong |= {r.phrase for way in ways for r in way(scene) if r.target != (target,)}
    options = int(asking.rng.integers(2, len(LETTERS) + 1))
    while len(wrong) < options - 1:
        name_of_nothing = asking.absent_name()
        if name_of_nothing is None:
            return None
        wrong.add(name_of_nothing)
    phrases = [right, *asking.rng.choice(sorted(wrong), size=options - 1, replace=False)]
    phrases = [str(phrases[i]) for i in asking.rng.permutation(options)]
    prompt = asking.say(wordings.WHICH_MASK, options=lettered(phrases))
    letter = LETTERS[phrases.index(right)]
    return Question(kind, prompt, letter, prompt_masks=(item.mask,), target=(target,))
