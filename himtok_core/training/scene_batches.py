"""Scenes -> tensors: what the model sees, what each patch shows, and token ids of questions and answers.

Everything here can be made by other processes than the one that learns, and is sent to it: pictures and masks
are bytes, a quarter of what floats would take. The one thing that it lacks are the tokens of masks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image

from .. import markup
from ..data.follow_ups import MOST_TURNS, converse
from ..data.mask_questions import MAX_TOKENS, WAYS
from ..data.questions import MASK, Question
from ..data.scenes import Scene, World, make_scene
from ..geometry import stretch_mask
from ..images import IMAGENET_MEAN, IMAGENET_STD, tile_picture
from ..lmm import HimtokProcessor

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
        masks: uint8 (N, S, S), 0..255, at the mask tokenizer's size.
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
    masks = as_bytes(masks)
    return DenseTargets(
        torch.from_numpy(np.stack(owner)),
        torch.tensor(kinds),
        torch.from_numpy(np.stack(boxes)).float(),
        shapes,
        masks,
    )


def as_bytes(masks: torch.Tensor) -> torch.Tensor:
    """Masks of `stretch_mask`, which has 256 levels: float 0..1 -> uint8 0..255 of the same shape."""
    return (255 * masks).round().to(torch.uint8)


def as_shares(masks: torch.Tensor) -> torch.Tensor:
    """What `as_bytes` was given."""
    return masks.float() / 255


def pixels(scenes: list[Scene], size: int) -> torch.Tensor:
    """uint8 (B, 3, `size`, `size`), one tile a scene; `normalised` makes of it what the model sees."""
    tiles = [np.asarray(tile_picture(scene.picture, size, max_tiles=1)[0]) for scene in scenes]
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, S, S) -> float32, the same numbers as the image processor's `pixel_values`."""
    mean, deviation = (pixels.new_tensor(x, dtype=torch.float32) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() / 255 - mean[:, None, None]) / deviation[:, None, None]


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
        """-> pixels, uint8 (B, 3, S, S), and what the patches show."""
        rng = np.random.default_rng([self.seed, step])
        return self.of([make_scene(int(rng.integers(2**29)), self.world) for _ in range(self.scenes)])

    def of(self, scenes: list[Scene]) -> tuple[torch.Tensor, DenseTargets]:
        """The same of given scenes."""
        size = self.processor.image_processor.image_size
        return pixels(scenes, size), dense_targets(scenes, self.names, self.grid, self.mask_size)


@dataclass
class Branch:
    """One conversation about a scene, after the part that all conversations about it share.

    Attributes:
        scene: its index in the batch.
        ids: token ids.
        labels: the same where the model speaks, IGNORE elsewhere.
        runs: (place of the first mask token, number of tokens, index of the mask) of each run of the answers.
        shown: the same of each run of the questions.
        looks: (first place, place after the last, objects) of each answer that is about certain objects, of
            each part of a list, and of the tokens from the ninth on of each mask in a question.
        decisions: places of the tokens that alone are an answer: the end of a mask of so many tokens, and the
            beginnings in DECIDING.
    """

    scene: int
    ids: list[int]
    labels: list[int]
    runs: list[tuple[int, int, int]]
    shown: list[tuple[int, int, int]]
    looks: list[tuple[int, int, tuple[int, ...]]]
    decisions: list[int]

    def say(self, tokens: list[list[int]]) -> None:
        """Put the tokens of every mask, ids of the vocabulary by index of the mask, where they belong."""
        for start, length, index in self.runs + self.shown:
            self.ids[start : start + length] = tokens[index][:length]
        for start, length, index in self.runs:
            self.labels[start : start + length] = tokens[index][:length]


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

    def branch(self, scene: int, first_object: int, turns: list[tuple[Question, int]]) -> Branch:
        """One conversation; wherever it has a token of a mask, `<|mt_0|>` stands until `Branch.say`.

        Args:
            scene: its index in the batch. first_object: the index in the batch of the scene's first object.
            turns: questions, and where the masks of each begin among those of the batch: first the ones that
                it shows, then its answer's.
        """
        branch = Branch(scene, [], [], [], [], [], [])
        for number, (question, mask) in enumerate(turns):
            objects = tuple(first_object + i for i in question.target)
            opening = "\n<|im_start|>user\n" if number else ""
            lengths = [MAX_TOKENS] * len(question.prompt_masks)
            asked = self._ids(opening + fill(question.prompt, lengths) + self.after_question)
            for start, length in self._runs(asked, lengths, len(branch.ids)):
                branch.shown.append((start, length, mask))
                mask += 1
                if objects:
                    branch.looks.append((start + COARSE + 1, start + length + 1, objects))
            branch.ids += asked
            branch.labels += [IGNORE] * len(asked)
            lengths = [question.mask_tokens or MAX_TOKENS] * len(question.answer_masks)
            answer = self._ids(fill(question.answer, lengths) + "<|im_end|>")
            begin, ends = len(branch.ids), []  # of the answer, and of its masks
            for start, length in self._runs(answer, lengths, begin):
                branch.runs.append((start, length, mask))
                mask += 1
                ends.append(start + length)
            if question.mask_tokens is not None:
                branch.decisions += ends
            branch.decisions += range(begin, begin + DECIDING.get(question.kind, 0))
            if len(ends) == len(objects) > 1:  # a list: what leads to a mask is about that object alone
                begins = [begin, *(end + 1 for end in ends[:-1])]
                parts = zip(begins, ends, objects, strict=True)
                branch.looks += [(first, end + 1, (item,)) for first, end, item in parts]
            elif objects and question.kind not in NOT_POINTING:
                branch.looks.append((begin, begin + len(answer), objects))
            branch.ids += answer
            branch.labels += answer
        return branch

    def _runs(self, ids: list[int], lengths: list[int], offset: int) -> Iterator[tuple[int, int]]:
        """(place of the first token plus `offset`, number of tokens) of each run in a text's ids."""
        place = 0
        for length in lengths:
            place = ids.index(self.first_mask_id, place)
            yield offset + place, length
            place += length


def fill(text: str, lengths: list[int]) -> str:
    """Put mask runs of so many `<|mt_0|>` where `<mask>` stands."""
    for length in lengths:
        text = text.replace(MASK, markup.mask_run([0] * length), 1)
    return text


@dataclass
class Drawn:
    """A batch of scenes and the conversations about them.

    Attributes:
        pixels, targets: as of `PatchBatches`.
        branches: the conversations, still without the tokens of their masks.
        masks: uint8 (M, S, S), 0..255, that the conversations refer to.
    """

    pixels: torch.Tensor
    targets: DenseTargets
    branches: list[Branch]
    masks: torch.Tensor


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

    def __call__(self, step: int) -> Drawn:
        world = self.patches.world
        rng = np.random.default_rng([self.patches.seed, step])
        scenes = [make_scene(int(rng.integers(2**29)), world) for _ in range(self.patches.scenes)]
        first_objects = np.cumsum([0, *(len(scene.objects) for scene in scenes)]).tolist()
        branches: list[Branch] = []
        masks: list[np.ndarray] = []
        for index, scene in enumerate(scenes):
            left = self.questions
            while left > 0:
                turns = int(min(rng.geometric(1 - self.next_turn), MOST_TURNS, left))
                asked = converse(scene, rng, world, turns, self.weights)
                if not asked:
                    break  # the scene supports none of the kinds
                numbered = []
                for question in asked:
                    numbered.append((question, len(masks)))
                    masks += [*question.prompt_masks, *question.answer_masks]
                branches.append(self.writer.branch(index, first_objects[index], numbered))
                left -= len(asked)
        size = self.patches.mask_size
        stretched = torch.zeros(len(masks), size, size)
        for place, mask in enumerate(masks):
            stretched[place] = torch.from_numpy(stretch_mask(mask, size))
        return Drawn(*self.patches.of(scenes), branches, as_bytes(stretched))
