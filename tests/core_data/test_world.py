"""The full world: what it holds, what training never sees of it, how often things turn up in its scenes."""

from collections import Counter

import numpy as np
import pytest

from himtok_core.data.layouts import Layout, draw, make_layout
from himtok_core.data.scenes import objects_of, render
from himtok_core.data.sprites import load_concepts, load_sheet, places
from himtok_core.data.world import BACKGROUNDS, COLOURS, SHAPES, TEXTURES, WORLDS, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.full()


@pytest.fixture(scope="module")
def layouts(world: World) -> list[Layout]:
    return [make_layout(seed, world) for seed in range(400)]


def test_worlds_have_names() -> None:
    assert WORLDS["mini"]() == World.mini() == World()
    assert WORLDS["full"]() == World.full() != World.mini()


def test_the_full_world_is_large(world: World) -> None:
    concepts = load_concepts(world.sprites)
    assert len(concepts) >= 800
    assert all(len(concept.styles) == 3 for concept in concepts)
    assert (len(SHAPES), len(COLOURS), len(TEXTURES)) == (12, 11, 4) and len(BACKGROUNDS) >= 12
    assert len(set(world.figures)) == 132


def test_every_drawing_of_the_full_world_is_in_its_sheet(world: World) -> None:
    for style in ("fluent3d", "noto", "twemoji"):
        sheet = load_sheet(style, world.sprites)
        assert len(sheet) == len(places(world.sprites))
        solid = (sheet[..., 3] > 127).mean((1, 2))
        assert solid.min() > 0.02, "no cell is empty"


def test_training_never_sees_what_is_held_out(world: World) -> None:
    everything = {concept.name: concept for concept in load_concepts(world.sprites)}
    seen = {(c.name, style) for c in world.concepts for style in c.styles}
    new_styles = {(c.name, style) for c in World.full("new_styles").concepts for style in c.styles}
    new_concepts = {(c.name, style) for c in World.full("new_concepts").concepts for style in c.styles}
    assert not seen & new_styles and not {name for name, _ in seen} & {name for name, _ in new_concepts}
    assert len(seen) + len(new_styles) + len(new_concepts) == 3 * len(everything)
    assert len(new_concepts) == 3 * round(0.05 * len(everything))
    assert len(new_styles) == round(0.10 * len(everything))
    assert {name for name, _ in new_styles} <= {name for name, _ in seen}
    assert all(count > 20 for count in Counter(style for _, style in new_styles).values())


def test_what_everybody_tries_first_is_not_held_out(world: World) -> None:
    held_out = {concept.name for concept in load_concepts(world.sprites) if concept.held_out}
    assert not held_out & {concept.name for concept in World.mini().concepts}


def test_everything_turns_up(world: World, layouts: list[Layout]) -> None:
    things = [placement.thing for layout in layouts for placement in layout.placements]
    assert {thing.colour for thing in things} - {None} == set(COLOURS)
    assert {thing.shape for thing in things} - {None} == set(SHAPES)
    assert {thing.texture for thing in things} - {None} == set(TEXTURES)
    assert {thing.style for thing in things} == {"figure", "fluent3d", "noto", "twemoji"}
    assert len({thing.name for thing in things if thing.code}) > 500
    assert {layout.background.kind for layout in layouts} == set(BACKGROUNDS)
    figures = sum(thing.shape is not None for thing in things)
    assert 0.2 < figures / len(things) < 0.3


def test_scenes_have_one_to_eight_objects(layouts: list[Layout]) -> None:
    counts = Counter(len(layout.placements) for layout in layouts)
    assert set(counts) == set(range(1, 9))
    assert all(counts[number] > 20 for number in range(1, 8))


def test_sizes_reach_from_small_to_large(layouts: list[Layout]) -> None:
    sizes = np.array([max(p.extent) / min(layout.size) for layout in layouts for p in layout.placements])
    assert 0.02 < sizes.min() < 0.05 and 0.55 < sizes.max() < 0.61
    assert 0.05 < np.mean(sizes < 0.1) < 0.3 and 0.03 < np.mean(sizes > 0.4) < 0.3


def test_pictures_are_up_to_twice_as_long_as_wide(layouts: list[Layout]) -> None:
    ratios = np.array([layout.size[0] / layout.size[1] for layout in layouts])
    assert 0.49 < ratios.min() < 0.55 and 1.8 < ratios.max() < 2.05
    assert 0.4 < np.mean(ratios > 1) < 0.6


def test_at_most_half_of_an_object_is_hidden(world: World, layouts: list[Layout]) -> None:
    shares = []
    for layout in layouts[:200]:
        for index in range(len(layout.placements)):
            alone = np.count_nonzero(make_alone(layout, index, world))
            shares.append(np.count_nonzero(layout.owner == index) / alone)
    assert 0.49 < min(shares) < 0.6 and np.mean(np.array(shares) < 0.95) > 0.1


def make_alone(layout: Layout, index: int, world: World) -> np.ndarray:
    """Bool [H, W]: what a placement would cover if nothing were in front of it."""
    placement = layout.placements[index]
    drawing = np.asarray(draw(placement, world))[..., 3] > 127
    canvas = np.zeros((3 * layout.size[1], 3 * layout.size[0]), dtype=bool)
    x, y = placement.at[0] + layout.size[0], placement.at[1] + layout.size[1]
    canvas[y : y + drawing.shape[0], x : x + drawing.shape[1]] = drawing
    return canvas[layout.size[1] : 2 * layout.size[1], layout.size[0] : 2 * layout.size[0]]


def test_figures_stand_out_from_the_background(layouts: list[Layout]) -> None:
    for layout in layouts:
        for placement in layout.placements:
            if placement.thing.colour is not None:
                rgb = np.array(COLOURS[placement.thing.colour])
                for other in (layout.background.first, layout.background.second):
                    assert np.linalg.norm(rgb - other) >= 70


def test_the_camera_varies(layouts: list[Layout]) -> None:
    cameras = [layout.camera for layout in layouts]
    for name, share in (("gain", 0.5), ("blur", 0.15), ("noise", 0.2), ("quality", 0.2)):
        assert abs(np.mean([getattr(camera, name) is not None for camera in cameras]) - share) < 0.08, name


def test_a_figure_has_the_colour_of_its_name_whatever_its_texture(
    world: World, layouts: list[Layout]
) -> None:
    """The larger part of a striped or dotted figure is in its own colour, the rest in another shade of it."""
    right = total = 0
    for layout in layouts[:150]:
        pixels = np.asarray(render(layout, world).picture).astype(float)
        for item in objects_of(layout):
            if not item.colour or item.area <= 200 or item.texture == "checkered":
                continue
            middle = np.median(pixels[item.mask], axis=0)
            distances = {name: np.linalg.norm(middle - np.array(rgb)) for name, rgb in COLOURS.items()}
            right += min(distances, key=distances.get) == item.colour
            total += 1
    assert total > 80 and right / total > 0.93


def test_the_same_seed_decides_the_same_scene(world: World, layouts: list[Layout]) -> None:
    again = make_layout(11, world)
    assert again.placements == layouts[11].placements and np.array_equal(again.owner, layouts[11].owner)
