"""Scenes -> tensors: what the model sees, what each patch shows, and token ids of questions and answers."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image

from .. import markup
from ..data.follow_ups import MOST_TURNS, converse
from ..data.mask_questions import WAYS
from ..data.questions import MASK, Question
from ..data.scenes import Scene, World, make_scene
from ..geometry import stretch_mask
from ..lmm import HimtokProcessor
from ..mask_tokenizer import MaskTokenizer

SHAPE_SIDE = 16  # side of the coarse masks that patches learn to draw
IGNORE = -100


def world_names(world: World) -> tuple[str, ...]:
    """The names of everything that a world can show, in a fixed order."""
    return (*(concept.name for concept in world.concepts), *world.figures)


@dataclass
class DenseTargets:
    """What the patches of a batch of pictures show.

    Attributes:
        owner: int64 (B, P), index of the object in each patch, -1 for background, -2 where it is unclear.
        names: int64 (N,), each object's place in `world_names`.
        boxes: float32 (N, 4), (x0, y0, x1, y1) as fractions of the picture.
        shapes: float32 (N, SHAPE_SIDE, SHAPE_SIDE), coverage of the picture's cells.
        masks: float32 (N, S, S), at the mask tokenizer's size.
    """

    owner: torch.Tensor
    names: torch.Tensor
    boxes: torch.Tensor
    shapes: torch.Tensor
    masks: torch.Tensor

    def to(self, device: torch.device) -> "DenseTargets":
        """The same on a device."""
        return DenseTargets(*(getattr(self, field.name).to(device) for field in fields(self)))


def dense_targets(scenes: list[Scene], names: dict[str, int], grid: int, mask_size: int) -> DenseTargets:
    """Targets of a batch of scenes for a `grid` x `grid` patch grid."""
    owner, kinds, boxes, masks = [], [], [], []
    for scene in scenes:
        width, height = scene.size
        cover = np.stack(
            [
                np.asarray(Image.fromarray(item.mask).convert("L").resize((grid, grid), Image.Resampling.BOX))
                / 255
                for item in scene.objects
            ]
        )  # (n, grid, grid)
        most = cover.max(0)
        row = np.where(most > 0.25, cover.argmax(0) + len(kinds), np.where(most > 0.05, -2, -1))
        owner.append(row.reshape(-1))
        for item in scene.objects:
            kinds.append(names[item.name])
            boxes.append(np.array(item.box) / (width, height, width, height))
            masks.append(stretch_mask(item.mask, mask_size))
    masks = torch.from_numpy(np.stack(masks))
    shapes = torch.nn.functional.interpolate(masks[:, None], (SHAPE_SIDE, SHAPE_SIDE), mode="area")[:, 0]
    return DenseTargets(
        torch.from_numpy(np.stack(owner)),
        torch.tensor(kinds),
        torch.from_numpy(np.stack(boxes)).float(),
        shapes,
        masks,
    )


def pixels(scenes: list[Scene], processor: HimtokProcessor) -> torch.Tensor:
    """float32 (B, 3, S, S), one tile a scene."""
    return processor.image_processor([scene.picture for scene in scenes], max_tiles=1)["pixel_values"]


class PatchBatches:
    """Batch number `step` of a run of the vision tower, a function of (seed, step) alone.

    Args:
        scenes: pictures a batch. grid: patches in each direction. mask_size: of the mask tokenizer.
    """

    def __init__(
        self, processor: HimtokProcessor, world: World, scenes: int, seed: int, grid: int, mask_size: int
    ):
        self.processor, self.world, self.scenes, self.seed = processor, world, scenes, seed
        self.names = {name: i for i, name in enumerate(world_names(world))}
        self.grid, self.mask_size = grid, mask_size

    def __call__(self, step: int) -> tuple[torch.Tensor, DenseTargets]:
        """-> pixel values (B, 3, S, S) and what the patches show."""
        rng = np.random.default_rng([self.seed, step])
        return self.of([make_scene(int(rng.integers(2**29)), self.world) for _ in range(self.scenes)])

    def of(self, scenes: list[Scene]) -> tuple[torch.Tensor, DenseTargets]:
        """The same of given scenes."""
        return pixels(scenes, self.processor), dense_targets(scenes, self.names, self.grid, self.mask_size)


@dataclass
class Branch:
    """One conversation about a scene, after the part that all conversations about it share.

    Attributes:
        scene: its index in the batch.
        ids: token ids.
        labels: the same where the model speaks, IGNORE elsewhere.
        runs: (place of the first mask token, number of tokens, index of the mask) of each run of the answers.
        looks: (first place, place after the last, objects) of each answer that is about certain objects, of
            each part of a list, and of the tokens from the ninth on of each mask in a question.
        decisions: places of the tokens that alone are an answer: the end of a mask of so many tokens, and the
            beginnings in DECIDING.
    """

    scene: int
    ids: list[int]
    labels: list[int]
    runs: list[tuple[int, int, int]]
    looks: list[tuple[int, int, tuple[int, ...]]]
    decisions: list[int]


COARSE = 8  # tokens of a question's mask after which the model should know where it lies
# Answers to these are about the picture as a whole.
NOT_POINTING = ("absent", "describe", "yes_no")
# Tokens at an answer's beginning that decide it: the letter, "There are 3", and "There" or "The" to what may
# or may not be there. Both weigh the same: a model that hears more of denials denies what it sees.
MAYBE_ABSENT = ("absent", "box", "segment_then_box", *WAYS)
DECIDING = {"mask_perception": 1, "count": 4, "how_many_of_them": 4, **dict.fromkeys(MAYBE_ABSENT, 1)}


class QuestionWriter:
    """Questions -> token ids, in the words of the chat template."""

    def __init__(self, processor: HimtokProcessor):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        picture = [{"type": "image"}, {"type": "text", "text": "@question@"}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": picture}], add_generation_prompt=True
        )
        text = text.replace("<IMG_CONTEXT>", processor.picture_text(1), 1)
        before, self.after_question = text.split("@question@")
        self.prefix_ids: list[int] = self._ids(before)
        self.first_mask_id = self.tokenizer.convert_tokens_to_ids("<|mt_0|>")

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def branch(
        self,
        scene: int,
        first_object: int,
        turns: list[tuple[Question, list[list[int]], list[list[int]], list[int]]],
    ) -> Branch:
        """One conversation.

        Args:
            scene: its index in the batch. first_object: the index in the batch of the scene's first object.
            turns: question, tokens of its prompt's masks, tokens of its answer's masks, and the places of the
                latter among all answers' masks of the batch.
        """
        ids: list[int] = []
        labels: list[int] = []
        runs: list[tuple[int, int, int]] = []
        looks: list[tuple[int, int, tuple[int, ...]]] = []
        decisions: list[int] = []
        for number, (question, shown, drawn, indices) in enumerate(turns):
            objects = tuple(first_object + i for i in question.target)
            opening = "\n<|im_start|>user\n" if number else ""
            asked = self._ids(opening + fill(question.prompt, shown) + self.after_question)
            for place, tokens in zip(self._places(asked, shown), shown, strict=True):
                start, end = len(ids) + place, len(ids) + place + len(tokens)
                if objects and len(tokens) > COARSE:
                    looks.append((start + COARSE + 1, end + 1, objects))
            ids += asked
            labels += [IGNORE] * len(asked)
            answer = self._ids(fill(question.answer, drawn) + "<|im_end|>")
            ends = []  # of the answer's masks
            for place, tokens, index in zip(self._places(answer, drawn), drawn, indices, strict=True):
                runs.append((len(ids) + place, len(tokens), index))
                ends.append(len(ids) + place + len(tokens))
            if question.mask_tokens is not None:
                decisions += ends
            decisions += range(len(ids), len(ids) + DECIDING.get(question.kind, 0))
            if len(ends) == len(objects) > 1:  # a list: what leads to a mask is about that object alone
                begins = [len(ids), *(end + 1 for end in ends[:-1])]
                parts = zip(begins, ends, objects, strict=True)
                looks += [(begin, end + 1, (item,)) for begin, end, item in parts]
            elif objects and question.kind not in NOT_POINTING:
                looks.append((len(ids), len(ids) + len(answer), objects))
            ids += answer
            labels += answer
        return Branch(scene, ids, labels, runs, looks, decisions)

    def _places(self, ids: list[int], runs: list[list[int]]) -> Iterator[int]:
        """Where in a text's ids the first token of each of its runs stands."""
        place = 0
        for tokens in runs:
            place = ids.index(self.first_mask_id + tokens[0], place)
            yield place
            place += len(tokens)


def fill(text: str, runs: list[list[int]]) -> str:
    """Put mask runs where `<mask>` stands."""
    for tokens in runs:
        text = text.replace(MASK, markup.mask_run(tokens), 1)
    return text


@dataclass
class Drawn:
    """A batch of scenes and the questions about them, before the mask tokenizer has seen the masks.

    Attributes:
        pixel_values, targets: as of `PatchBatches`.
        first_objects: of each scene, the place of its first object among those of all.
        chosen: (scene, questions) of each conversation.
        masks: float32 (M, S, S), `given` masks of questions, then those of answers, in the order of `chosen`.
    """

    pixel_values: torch.Tensor
    targets: DenseTargets
    first_objects: list[int]
    chosen: list[tuple[int, list[Question]]]
    masks: torch.Tensor
    given: int


class ConversationBatches:
    """Batch number `step` of a language-model run, a function of (seed, step) alone.

    Args:
        patches: makes the pictures' side of a batch.
        questions: about each picture, all its conversations together.
        weights: how often each kind of question that stands alone is asked, by kind.
        next_turn: share of conversations that go on after a turn, up to six of them.
    """

    def __init__(
        self,
        patches: PatchBatches,
        questions: int,
        weights: dict[str, float],
        next_turn: float,
    ):
        self.patches, self.writer = patches, QuestionWriter(patches.processor)
        self.questions, self.weights, self.next_turn = questions, weights, next_turn

    def draw(self, step: int) -> Drawn:
        """What can be made without the mask tokenizer, and so by another process."""
        world = self.patches.world
        rng = np.random.default_rng([self.patches.seed, step])
        scenes = [make_scene(int(rng.integers(2**29)), world) for _ in range(self.patches.scenes)]
        chosen: list[tuple[int, list[Question]]] = []
        for index, scene in enumerate(scenes):
            left = self.questions
            while left > 0:
                turns = int(min(rng.geometric(1 - self.next_turn), MOST_TURNS, left))
                asked = converse(scene, rng, world, turns, self.weights)
                if not asked:
                    break  # the scene supports none of the kinds
                chosen.append((index, asked))
                left -= len(asked)
        size = self.patches.mask_size
        questions = [question for _, asked in chosen for question in asked]
        given = [stretch_mask(mask, size) for question in questions for mask in question.prompt_masks]
        wanted = [stretch_mask(mask, size) for question in questions for mask in question.answer_masks]
        both = torch.from_numpy(np.stack(given + wanted)) if given or wanted else torch.zeros(0, size, size)
        first_objects = np.cumsum([0, *(len(scene.objects) for scene in scenes)]).tolist()
        return Drawn(*self.patches.of(scenes), first_objects, chosen, both, len(given))

    def speak(self, drawn: Drawn, mask_tokenizer: MaskTokenizer) -> tuple[list[Branch], torch.Tensor]:
        """-> conversations, and the masks of the answers (M, S, S) that `Branch.runs` refers to."""
        masks = drawn.masks.to(mask_tokenizer.device)
        tokens = mask_tokenizer.encode(masks).tolist() if len(masks) else []
        shown, spoken = iter(tokens[: drawn.given]), iter(enumerate(tokens[drawn.given :]))
        branches = []
        for index, asked in drawn.chosen:
            turns = []
            for question in asked:
                given_runs = [next(shown) for _ in question.prompt_masks]
                answer = [next(spoken) for _ in question.answer_masks]
                length = question.mask_tokens or 32
                turns.append(
                    (question, given_runs, [run[:length] for _, run in answer], [i for i, _ in answer])
                )
            branches.append(self.writer.branch(index, drawn.first_objects[index], turns))
        return branches, masks[drawn.given :]
