"""Scenes -> tensors: what the model sees, what each patch shows, and what is asked and answered.

Everything here can be made by other processes than the one that learns, and is sent to it: pictures and masks
are bytes, a quarter of what floats would take.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..data.follow_ups import MOST_TURNS, converse
from ..data.scenes import Scene, World, make_scene
from ..geometry import stretch_mask_to_bytes
from ..images import IMAGENET_MEAN, IMAGENET_STD, tile_picture
from ..lmm import HimtokProcessor
from .batch import Batch
from .branches import Branch, QuestionWriter
from .packing import Packed, pack

SHAPE_SIDE = 16  # side of the coarse masks that patches learn to draw


def world_names(world: World) -> tuple[str, ...]:
    """The names of everything that a world can show, in a fixed order."""
    return (*(concept.name for concept in world.concepts), *world.figures)


@dataclass
class DenseTargets(Batch):
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
            masks.append(stretch_mask_to_bytes(item.mask, mask_size))
    masks = torch.from_numpy(np.stack(masks))
    shapes = F.interpolate(as_shares(masks)[:, None], (SHAPE_SIDE, SHAPE_SIDE), mode="area")[:, 0]
    return DenseTargets(
        torch.from_numpy(np.stack(owner)),
        torch.tensor(kinds),
        torch.from_numpy(np.stack(boxes)).float(),
        shapes,
        masks,
    )


def as_shares(masks: torch.Tensor) -> torch.Tensor:
    """Masks of `stretch_mask_to_bytes` as the mask tokenizer takes them: uint8 -> float 0..1."""
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
class Asked:
    """What is asked about a batch of scenes.

    Attributes:
        branches: the conversations. masks: uint8 (M, S, S), 0..255, that they refer to.
    """

    scenes: list[Scene]
    branches: list[Branch]
    masks: torch.Tensor


@dataclass
class Drawn(Batch):
    """A batch to learn from.

    Attributes:
        pixels, targets: as of `PatchBatches`.
        packed: the conversations, still without the tokens of their masks.
        masks: uint8 (M, S, S), 0..255, that they refer to.
    """

    pixels: torch.Tensor
    targets: DenseTargets
    packed: Packed
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
        asked = self.asked(step)
        pixels, targets = self.patches.of(asked.scenes)
        self.writer.forget_answers(asked.branches, np.random.default_rng([self.patches.seed, step, 1]))
        packed = pack(asked.branches, self.writer, targets.owner.numpy(), targets.boxes.numpy())
        return Drawn(pixels, targets, packed, asked.masks)

    def asked(self, step: int) -> Asked:
        """The scenes of a step, and whole conversations about them."""
        world = self.patches.world
        rng = np.random.default_rng([self.patches.seed, step])
        scenes = [make_scene(int(rng.integers(2**29)), world) for _ in range(self.patches.scenes)]
        first_objects = np.cumsum([0, *(len(scene.objects) for scene in scenes)]).tolist()
        branches: list[Branch] = []
        masks = _Masks(self.patches.mask_size)
        for index, scene in enumerate(scenes):
            left = self.questions
            while left > 0:
                turns = int(min(rng.geometric(1 - self.next_turn), MOST_TURNS, left))
                asked = converse(scene, rng, world, turns, self.weights)
                if not asked:
                    break  # the scene supports none of the kinds
                numbered = [
                    (question, [*map(masks.place, (*question.prompt_masks, *question.answer_masks))])
                    for question in asked
                ]
                branches.append(self.writer.branch(index, first_objects[index], numbered))
                left -= len(asked)
        return Asked(scenes, branches, masks.stacked())


class _Masks:
    """The masks of a batch, stretched; those that are asked for again and again only once."""

    def __init__(self, size: int):
        self.size, self.places, self.all = size, {}, []

    def place(self, mask: np.ndarray) -> int:
        """The index of a mask among all."""
        key = (mask.shape, np.packbits(mask).tobytes())
        if key not in self.places:
            self.places[key] = len(self.all)
            self.all.append(stretch_mask_to_bytes(mask, self.size))
        return self.places[key]

    def stacked(self) -> torch.Tensor:
        """uint8 (M, size, size)."""
        return torch.from_numpy(np.array(self.all, np.uint8).reshape(-1, self.size, self.size))
