"""How well a model answers questions about drawn scenes that its training never saw.

Knows which scenes and questions are asked, how an answer of each kind is scored and how the mask tokenizer's
round trip is measured. What the results look like on paper is `report`'s work.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .. import geometry, markup
from ..chat import Chat
from ..data.questions import KINDS, MASK, Question, ask, weights_of
from ..data.scenes import HELD_OUT_SEED, Scene, World, make_scene
from ..data.world import COLOURS, SHAPES
from ..mask_tokenizer import MaskTokenizer
from ..reply import Reply
from . import metrics

LENGTHS = (1, 2, 4, 8, 16, 32)
QUESTIONS_PER_SCENE = 3
# A kind that the world supports turns up long before this many scenes a question.
MOST_SCENES = 50
MAX_NEW_TOKENS = 160  # a mask, a box and the words around them take half of it


@dataclass(frozen=True, eq=False)
class Outcome:
    """One question, the reply and its scores; a score that the kind does not have is None.

    Attributes:
        overlap: pixels in the intersection and union of the reply's mask and the true one.
        box_iou: of the reply's box and the true one, 0..1; 0 where a box was due and none came.
        correct: whether the words (or the number of tokens) are right.
        missing: a mask or box was due and the reply has neither; for `absent`, always False.
        seconds: wall time of the reply.
    """

    seed: int
    question: Question
    reply: Reply
    overlap: metrics.Overlap | None
    box_iou: float | None
    correct: bool | None
    missing: bool
    seconds: float

    @property
    def score(self) -> float:
        """The first score that this kind has, 0..1, to find the worst cases by."""
        if self.overlap is not None:
            return metrics.iou(self.overlap)
        return float(self.correct) if self.box_iou is None else self.box_iou


@dataclass(frozen=True)
class KindScores:
    """Scores of one kind of question; nan where the kind does not have them.

    mean_iou, ciou: masks. box_iou, box_at_50, box_at_75: mean IoU of boxes and accuracy at two thresholds.
    accuracy: right words or token counts. missing: part of the replies without the mask or box that was due.
    """

    count: int
    mean_iou: float
    ciou: float
    box_iou: float
    box_at_50: float
    box_at_75: float
    accuracy: float
    missing: float


@dataclass(frozen=True)
class TokenizerScores:
    """Round trip of scene masks: mean IoU for each of LENGTHS, codes used at least once, their perplexity."""

    count: int
    mean_iou: dict[int, float] = field(default_factory=dict)
    codes_used: int = 0
    codebook_size: int = 0
    perplexity: float = 0.0


def world_of(concepts: tuple[dict, ...], everything: World | None = None) -> World:
    """The part of the whole world that a model was trained on, by the list that it ships with.

    Args:
        concepts: {"name", "code", "styles"} of a drawing, {"name"} of a plain figure ("blue circle"); an
            empty list stands for everything.
        everything: the whole world, the default one where None.
    """
    world = everything or World()
    if not concepts:
        return world
    styles = {entry["code"]: tuple(entry["styles"]) for entry in concepts if entry.get("code")}
    drawings = tuple(
        replace(concept, styles=tuple(style for style in concept.styles if style in styles[concept.codes[0]]))
        for concept in world.concepts
        if concept.codes[0] in styles
    )
    figures = [entry["name"].split(" ") for entry in concepts if not entry.get("code")]
    return replace(
        world,
        concepts=tuple(concept for concept in drawings if concept.styles),
        shapes=tuple(shape for shape in SHAPES if [shape] in [name[-1:] for name in figures]) or world.shapes,
        colours=tuple(c for c in COLOURS if [c] in [name[:1] for name in figures]) or world.colours,
    )


def held_out_questions(world: World, count: int, seed: int = 0) -> Iterator[tuple[Scene, Question]]:
    """About `count` questions of all kinds on held-out scenes, the same ones for the same arguments.

    Kinds come as often as their weight in training, each at least once. A scene answers up to three
    questions of the kinds that are furthest behind.
    """
    weights = weights_of(world)
    total = sum(weights.values())
    due = {kind: max(1, round(count * weight / total)) for kind, weight in weights.items()}
    for number in itertools.count(HELD_OUT_SEED + seed):
        wanted = [kind for kind, number in due.items() if number > 0]
        wanted.sort(key=lambda kind: -due[kind] / weights[kind])
        if not wanted or number >= HELD_OUT_SEED + seed + MOST_SCENES * count:
            return
        scene = make_scene(number, world)
        rng = np.random.default_rng([number, 1])
        questions = (question for kind in wanted if (question := ask(scene, kind, rng, world)) is not None)
        for question in itertools.islice(questions, QUESTIONS_PER_SCENE):
            due[question.kind] -= 1
            yield scene, question


def answer(chat: Chat, scene: Scene, question: Question) -> Outcome:
    """Asks one question in a conversation of its own, greedily, and scores the reply."""
    prompt = with_masks(question.prompt, question.prompt_masks, chat.mask_tokenizer)
    reply = chat.start(scene.picture).ask(prompt, max_new_tokens=MAX_NEW_TOKENS)
    return score(scene, question, reply)


def with_masks(text: str, masks: tuple[np.ndarray, ...], tokenizer: MaskTokenizer) -> str:
    """Replaces every `<mask>` of a text by the full run of the mask in its place."""
    if not masks:
        return text
    side = tokenizer.config.mask_size
    stretched = np.stack([geometry.stretch_mask(mask, side) for mask in masks])
    for tokens in tokenizer.encode(torch.from_numpy(stretched)).tolist():
        text = text.replace(MASK, markup.mask_run(tokens), 1)
    return text


def score(scene: Scene, question: Question, reply: Reply) -> Outcome:
    """Compares a reply with the truth. Of several masks or boxes in a reply the first one counts."""
    masks = [item.mask for item in reply.objects if item.mask is not None]
    boxes = [item.box for item in reply.objects if item.box is not None]
    overlap = box_iou = None
    if question.answer_masks:
        truth = question.answer_masks[0]
        overlap = metrics.overlap(masks[0] if masks else np.zeros_like(truth), truth)
    if "<box>" in question.answer:
        truth_box = scene.objects[question.target[0]].box
        box_iou = geometry.box_iou(boxes[0], truth_box) if boxes else 0.0
    missing = (bool(question.answer_masks) and not masks) or (box_iou is not None and not boxes)
    check = _CHECKS.get(question.kind)
    correct = None if check is None else check(question, reply)
    seconds = reply.timing.total if reply.timing is not None else 0.0
    return Outcome(scene.seed, question, reply, overlap, box_iou, correct, missing, seconds)


def summarise(outcomes: list[Outcome]) -> dict[str, KindScores]:
    """Scores for every kind that was asked, in the order of `KINDS`."""
    return {
        kind: _scores([outcome for outcome in outcomes if outcome.question.kind == kind])
        for kind in KINDS
        if any(outcome.question.kind == kind for outcome in outcomes)
    }


def round_trip(tokenizer: MaskTokenizer, world: World, scenes: int, seed: int = 0) -> TokenizerScores:
    """Encodes the masks of held-out scenes and decodes them from the first 1, 2, 4, ... tokens.

    Masks are compared at the size of their pictures, so what stretching costs is part of the score.
    """
    side = tokenizer.config.mask_size
    lengths = [length for length in LENGTHS if length <= tokenizer.config.num_latent_tokens]
    ious: dict[int, list[float]] = {length: [] for length in lengths}
    used = np.zeros(tokenizer.config.codebook_size, dtype=np.int64)
    for number in range(HELD_OUT_SEED + seed, HELD_OUT_SEED + seed + scenes):
        scene = make_scene(number, world)
        masks = [item.mask for item in scene.objects]
        if not masks:
            continue
        stretched = np.stack([geometry.stretch_mask(mask, side) for mask in masks])
        tokens = tokenizer.encode(torch.from_numpy(stretched))
        used += np.bincount(tokens.cpu().numpy().ravel(), minlength=len(used))
        drawn = tokenizer.decode_prefixes(tokens, lengths).float().cpu().numpy()  # (B, P, S, S)
        for truth, prefixes in zip(masks, drawn, strict=True):
            for length, probability in zip(lengths, prefixes, strict=True):
                mask = geometry.mask_from_probability(probability, scene.size)
                ious[length].append(metrics.iou(metrics.overlap(mask, truth)))
    return TokenizerScores(
        count=len(ious[lengths[0]]),
        mean_iou={length: metrics.mean(values) for length, values in ious.items()},
        codes_used=int((used > 0).sum()),
        codebook_size=len(used),
        perplexity=metrics.perplexity(used),
    )


def _scores(outcomes: list[Outcome]) -> KindScores:
    overlaps = [outcome.overlap for outcome in outcomes if outcome.overlap is not None]
    boxes = [outcome.box_iou for outcome in outcomes if outcome.box_iou is not None]
    return KindScores(
        count=len(outcomes),
        mean_iou=metrics.giou(overlaps),
        ciou=metrics.ciou(overlaps),
        box_iou=metrics.mean(boxes),
        box_at_50=metrics.accuracy_at(boxes, 0.5),
        box_at_75=metrics.accuracy_at(boxes, 0.75),
        accuracy=metrics.mean([outcome.correct for outcome in outcomes if outcome.correct is not None]),
        missing=metrics.mean([outcome.missing for outcome in outcomes]),
    )


def _says_none(question: Question, reply: Reply) -> bool:
    return not reply.objects and re.match(r"There (is|are) no\b", reply.text.strip()) is not None


def _same_number(question: Question, reply: Reply) -> bool:
    if re.search(r"\d", question.answer) is None:
        return _says_none(question, reply)
    return re.findall(r"\d+", reply.text) == re.findall(r"\d+", question.answer)


def _same_first_word(question: Question, reply: Reply) -> bool:
    return re.findall(r"\w+", reply.text)[:1] == re.findall(r"\w+", question.answer)[:1]


def _same_last_word(question: Question, reply: Reply) -> bool:
    return re.findall(r"\w+", reply.text)[-1:] == re.findall(r"\w+", question.answer)[-1:]


def _same_text(question: Question, reply: Reply) -> bool:
    return reply.text.strip() == question.answer


def _same_things(question: Question, reply: Reply) -> bool:
    """The same list in any order."""
    return _listed(reply.text) == _listed(question.answer)


def _listed(text: str) -> list[str]:
    names = text.strip().removeprefix("The picture shows ").removesuffix(".")
    return sorted(re.split(r", | and ", names))


def _same_place(question: Question, reply: Reply) -> bool:
    return reply.text.split("<box>")[0].strip() == question.answer.split("<box>")[0].strip()


def _right_length(question: Question, reply: Reply) -> bool:
    runs = [item.tokens for item in reply.objects if item.tokens]
    return bool(runs) and all(len(tokens) == question.mask_tokens for tokens in runs)


_CHECKS: dict[str, Callable[[Question, Reply], bool]] = {
    "absent": _says_none,
    "segment_with_length": _right_length,
    "count": _same_number,
    "colour_of": _same_last_word,
    "what_is_at": _same_text,
    "where_is": _same_place,
    "yes_no": _same_first_word,
    "describe": _same_things,
    "mask_perception": _same_first_word,
}
