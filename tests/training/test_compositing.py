"""Layouts drawn in batches look like the same layouts drawn one by one on the processor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from himtok_core.data.layouts import Layout, Placement, make_layout
from himtok_core.data.scenes import render
from himtok_core.data.sprites import load_sprite
from himtok_core.data.world import BACKGROUNDS, WORLDS, World
from himtok_core.training.compositing import Composites, Compositor

SIZE = 96


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


@pytest.fixture(scope="module")
def layouts(world: World) -> list[Layout]:
    found = [make_layout(seed, world) for seed in range(40)]
    return [replace(layout, camera=replace(layout.camera, quality=None)) for layout in found]


@pytest.fixture(scope="module")
def composites(world: World, layouts: list[Layout]) -> Composites:
    return Compositor(world, SIZE)(layouts)


def on_the_processor(layout: Layout, world: World) -> np.ndarray:
    picture = render(layout, world).picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(picture).astype(float)


def test_pictures_agree(world: World, layouts: list[Layout], composites: Composites) -> None:
    assert composites.pictures.shape == (len(layouts), 3, SIZE, SIZE)
    assert composites.pictures.dtype == torch.float32
    differences = []
    for layout, picture in zip(layouts, composites.pictures, strict=True):
        expected = on_the_processor(layout, world)
        differences.append(np.abs(picture.permute(1, 2, 0).numpy() - expected).mean())
    assert np.median(differences) < 3 and max(differences) < 9, np.round(sorted(differences)[-5:], 1)


def test_masks_agree(layouts: list[Layout], composites: Composites) -> None:
    assert composites.owner.shape == (len(layouts), SIZE, SIZE)
    ious = []
    for layout, owner in zip(layouts, composites.owner.numpy(), strict=True):
        stretched = np.asarray(Image.fromarray(layout.owner).resize((SIZE, SIZE), Image.Resampling.NEAREST))
        for index in range(len(layout.placements)):
            mine, theirs = owner == index, stretched == index
            if theirs.sum() >= 60:
                ious.append((mine & theirs).sum() / (mine | theirs).sum())
        assert set(np.unique(owner)) <= set(range(-1, len(layout.placements)))
    assert len(ious) > 50 and np.mean(ious) > 0.9 and np.quantile(ious, 0.05) > 0.75, np.mean(ious)


def test_every_background_agrees() -> None:
    world, compositor = World.full(), Compositor(World.full(), SIZE)
    seen = {}
    for seed in range(200):
        layout = make_layout(seed, world)
        bare = replace(
            layout,
            placements=(),
            camera=replace(layout.camera, noise=None, quality=None, gain=None, blur=None),
        )
        seen.setdefault(layout.background.kind, bare)
        if len(seen) == len(BACKGROUNDS):
            break
    assert set(seen) == set(BACKGROUNDS)
    pictures = compositor(list(seen.values())).pictures
    for (kind, layout), picture in zip(seen.items(), pictures, strict=True):
        expected = on_the_processor(layout, world)
        difference = np.abs(picture.permute(1, 2, 0).numpy() - expected)
        assert difference.mean() < 4, (kind, difference.mean())


def test_a_drawing_is_turned_and_mirrored_like_on_the_processor(world: World) -> None:
    """Strong turns of both signs, mirrored and not; a wrong sense of any would show."""
    compositor = Compositor(world, SIZE)
    layout = next(
        found
        for seed in range(50)
        if (found := make_layout(seed, world)).placements and found.placements[-1].thing.code
    )
    camera = replace(layout.camera, noise=None, quality=None, blur=None)
    placement = replace(
        layout.placements[-1], extent=(60, 60), centre=(layout.size[0] / 2, layout.size[1] / 2)
    )
    for angle in (-40.0, 40.0):
        for flipped in (False, True):
            turned = replace(placement, angle=angle, flipped=flipped)
            drawn = _centred(turned, world)
            one = replace(layout, camera=camera, placements=(drawn,))
            mine = compositor([one]).pictures[0].permute(1, 2, 0).numpy()
            assert np.abs(mine - on_the_processor(one, world)).mean() < 2.5, (angle, flipped)


def _centred(placement: Placement, world: World) -> Placement:
    """The placement moved so that the drawing's middle lies at its centre, as `layouts` would have it."""
    thing = placement.thing
    drawing = load_sprite(thing.code, thing.style, world.sprites).getchannel("A").resize(placement.extent)
    if placement.flipped:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = drawing.rotate(placement.angle, Image.Resampling.BICUBIC, expand=True)
    left, top, *_ = turned.getbbox()
    x, y = placement.centre[0] - turned.width / 2 + left, placement.centre[1] - turned.height / 2 + top
    return replace(placement, at=(round(x), round(y)))


def test_a_batch_without_objects_is_background(world: World, layouts: list[Layout]) -> None:
    bare = [replace(layout, placements=()) for layout in layouts[:2]]
    assert (Compositor(world, 32)(bare).owner == -1).all()
