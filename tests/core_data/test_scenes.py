"""Scenes: what they claim (masks, boxes, names, colours) is what is drawn."""

import zlib
from collections import Counter

import numpy as np
import pytest

from himtok_core.data.scenes import HELD_OUT_SEED, Scene, SceneObject, make_scene
from himtok_core.data.sprites import load_sprite
from himtok_core.data.world import COLOURS, SHAPES, World

SEEDS = range(100)
# fmt: off
OF_THE_SMALL_WORLD = [
    2524620618, 3549585709, 1927301495, 2275888836, 4100681434, 3465174351,
    3939115455, 1334786699, 895499609, 176727911, 1707435313, 800925998,
]
# fmt: on


@pytest.fixture(scope="module")
def world() -> World:
    return World.mini()


@pytest.fixture(scope="module")
def scenes(world: World) -> list[Scene]:
    return [make_scene(seed, world) for seed in SEEDS]


def test_the_same_seed_draws_the_same_scene(world: World, scenes: list[Scene]) -> None:
    again = make_scene(7, world)
    assert np.array_equal(np.asarray(again.picture), np.asarray(scenes[7].picture))
    assert [item.name for item in again.objects] == [item.name for item in scenes[7].objects]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(again.objects, scenes[7].objects, strict=True))


def test_the_small_world_stays_as_himtok_mini_learned_it(world: World) -> None:
    """Pixels of scenes whose scores are in its model card; later changes must leave them alone."""
    digests = [
        zlib.crc32(np.asarray(make_scene(HELD_OUT_SEED + seed, world).picture).tobytes())
        for seed in range(12)
    ]
    assert digests == OF_THE_SMALL_WORLD


def test_other_seeds_draw_other_scenes(scenes: list[Scene]) -> None:
    assert len({scene.picture.tobytes() for scene in scenes}) == len(scenes)


def test_masks_and_boxes_belong_to_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        width, height = scene.size
        assert scene.picture.mode == "RGB" and 0.49 <= width / height <= 2.05
        covered = np.zeros((height, width), dtype=int)
        for item in scene.objects:
            assert item.mask.shape == (height, width) and item.mask.dtype == np.bool_
            covered += item.mask
            x0, y0, x1, y1 = item.box
            assert item.mask[y0:y1, x0:x1].sum() == item.area > 0
            assert item.mask[y0].any() and item.mask[y1 - 1].any()
            assert item.mask[:, x0].any() and item.mask[:, x1 - 1].any()
        assert covered.max() <= 1, "a pixel shows one object only"


def test_figures_have_the_colour_and_shape_of_their_names(scenes: list[Scene]) -> None:
    """Pixels under a mask are those of its object, so the masks lie where things are drawn and in front."""
    seen = 0
    for scene in scenes:
        pixels = np.asarray(scene.picture).astype(float)
        for item in (item for item in scene.objects if item.shape is not None):
            assert item.name == f"{item.colour} {item.shape}"
            middle = np.median(pixels[item.mask], axis=0)
            distances = {name: np.linalg.norm(middle - np.array(rgb)) for name, rgb in COLOURS.items()}
            assert min(distances, key=distances.get) == item.colour
            seen += 1
    assert seen > 20


def test_a_ring_has_a_hole_and_a_square_fills_its_box() -> None:
    ring = next(_alone("ring", seed) for seed in range(20))
    x, y = (round(value) for value in ring.centre)
    assert not ring.mask[y, x] and ring.mask.any()
    square = next(item for seed in range(50) if _fill(item := _alone("square", seed)) > 0.95)
    assert square.shape == "square"


def test_hidden_parts_leave_the_masks_of_what_is_behind() -> None:
    """Two large objects often touch; the front one then bites a piece out of the other, never most of it."""
    world = World(concepts=World().concepts[:1], shapes=("circle",), sizes=(0.5, 0.6), max_objects=2)
    fills = []
    for seed in range(150):
        scene = make_scene(seed, world)
        circles = [item for item in scene.objects if item.shape == "circle" and _inside(scene, item)]
        fills += [_fill(item) for item in circles if len(scene.objects) == 2]
    assert min(fills) < 0.7 < max(fills) < 0.82, "a circle fills 0.785 of its box, a bitten one less"
    assert min(fills) > 0.45


def test_sizes_keep_the_worlds_limits() -> None:
    world = World(sizes=(0.3, 0.4), max_objects=1, shapes=("square", "circle"))
    for seed in range(40):
        scene = make_scene(seed, world, size=(200, 100))
        assert scene.size == (200, 100) and len(scene.objects) == 1
        x0, y0, x1, y1 = scene.objects[0].box
        # Turning a square by 15 degrees makes its box 1.22 times as large.
        assert max(x1 - x0, y1 - y0) <= 0.4 * 100 * 1.35


def test_names_come_from_the_world(world: World, scenes: list[Scene]) -> None:
    allowed = {concept.name for concept in world.concepts}
    allowed |= {f"{colour} {shape}" for colour in COLOURS for shape in SHAPES}
    names = Counter(item.name for scene in scenes for item in scene.objects)
    assert set(names) <= allowed and len(names) > 30
    assert any(max(Counter(o.name for o in scene.objects).values()) > 1 for scene in scenes)


def test_drawings_are_where_their_masks_are(world: World, scenes: list[Scene]) -> None:
    """Under a mask lies about the mean colour of its drawing, whatever the background."""
    codes = {concept.name: concept.codes[0] for concept in world.concepts}
    distances = []
    for scene in scenes:
        pixels = np.asarray(scene.picture).astype(float)
        for item in (item for item in scene.objects if item.shape is None):
            sprite = np.asarray(load_sprite(codes[item.name], item.style, world.sprites)).astype(float)
            drawn = sprite[sprite[..., 3] > 127][:, :3].mean(axis=0)
            distances.append(np.abs(pixels[item.mask].mean(axis=0) - drawn).max())
    assert len(distances) > 100 and np.median(distances) < 15 and np.quantile(distances, 0.95) < 45


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="heptagon"):
        for seed in range(50):
            make_scene(seed, World(shapes=("heptagon",)))


def _alone(shape: str, seed: int) -> SceneObject:
    """The only object of a scene in a world of one shape, wherever the seed draws a figure."""
    world = World(shapes=(shape,), max_objects=1)
    return next(
        item
        for item in (make_scene(1000 * seed + offset, world).objects[0] for offset in range(200))
        if item.shape == shape
    )


def _fill(item: SceneObject) -> float:
    x0, y0, x1, y1 = item.box
    return item.area / ((x1 - x0) * (y1 - y0))


def _inside(scene: Scene, item: SceneObject) -> bool:
    x0, y0, x1, y1 = item.box
    return x0 > 0 and y0 > 0 and x1 < scene.size[0] and y1 < scene.size[1]
