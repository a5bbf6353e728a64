"""What scenes are made of: two worlds, the small one that himtok-mini knows and the full one.

Knows lists and limits. Where things go is `layouts`' work, how they look that of `figures`, `backgrounds` and
`sprites`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .sprites import FULL_FOLDER, MINI_FOLDER, Concept, load_concepts

COLOURS = {
    "red": (221, 36, 40),
    "orange": (247, 138, 22),
    "yellow": (252, 215, 40),
    "green": (52, 168, 76),
    "blue": (42, 104, 222),
    "purple": (136, 62, 190),
    "pink": (246, 130, 178),
    "black": (30, 30, 34),
    "white": (246, 246, 243),
    "grey": (134, 136, 138),
    "brown": (121, 72, 38),
}
# fmt: off
SHAPES = (
    "circle", "square", "triangle", "star", "cross", "ring",
    "oval", "rectangle", "diamond", "pentagon", "hexagon", "semicircle",
)
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS = (
    "flat", "gradient", "noise", "stripes", "checkerboard", "sky",
    "glow", "tiles", "bricks", "dots", "plaid", "waves", "clouds", "marble", "wood", "grass",
)
# fmt: on

Drawings = Literal["training", "new_styles", "new_concepts"]


@dataclass(frozen=True)
class World:
    """What scenes are made of; the defaults are the small world.

    Attributes:
        sprites: folder of the drawings. concepts: those that may turn up, with the styles that may.
        shapes, colours, textures: of the plain figures. backgrounds: kinds of them.
        max_objects: 1 to this many objects a scene.
        sizes: smallest and largest longer side of an object, as a fraction of the picture's shorter side.
        even_sizes: every size in between equally often; otherwise every ratio, so that most are small.
        hidden: the largest part of an object that others may cover.
        contrast: least distance (RGB, 0..441) of a figure's colour to those of the background.
        side: a picture has about side x side pixels where nobody asks for a size.
        elongation: longest side of a picture by its shorter one, at most.
        elongation_spread: standard deviation of the logarithm of width by height.
        blur: share of the pictures that are out of focus.
    """

    sprites: Path = MINI_FOLDER
    concepts: tuple[Concept, ...] = field(default_factory=lambda: load_concepts(MINI_FOLDER))
    shapes: tuple[str, ...] = SHAPES[:6]
    colours: tuple[str, ...] = tuple(COLOURS)[:8]
    textures: tuple[str, ...] = TEXTURES[:1]
    backgrounds: tuple[str, ...] = BACKGROUNDS[:6]
    max_objects: int = 4
    sizes: tuple[float, float] = (0.4, 0.7)
    even_sizes: bool = False
    hidden: float = 0.25
    contrast: float = 0
    side: int = 160
    elongation: float = 1.6
    elongation_spread: float = 0.2
    blur: float = 0

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of all plain figures, e.g. "red circle"."""
        return tuple(f"{colour} {shape}" for colour in self.colours for shape in self.shapes)

    @classmethod
    def mini(cls) -> "World":
        """The small world, which the shipped himtok-mini was trained on: the same seeds, the same scenes."""
        return cls()

    @classmethod
    def full(cls, drawings: Drawings = "training") -> "World":
        """Hundreds of things in three styles, many figures, small and half hidden objects.

        Args:
            drawings: "training": all that training may see; "new_styles": only things in the one style that
                training never drew them in; "new_concepts": only things that it never drew at all.
        """
        concepts = load_concepts(FULL_FOLDER)
        if drawings == "new_concepts":
            chosen = [concept for concept in concepts if concept.held_out == "all"]
        elif drawings == "new_styles":
            held = [concept for concept in concepts if concept.held_out in concept.styles]
            chosen = [replace(concept, styles=(concept.held_out,)) for concept in held]
        else:
            seen = [concept for concept in concepts if concept.held_out != "all"]
            chosen = [
                replace(c, styles=tuple(style for style in c.styles if style != c.held_out)) for c in seen
            ]
        return cls(
            sprites=FULL_FOLDER,
            concepts=tuple(chosen),
            shapes=SHAPES,
            colours=tuple(COLOURS),
            textures=TEXTURES,
            backgrounds=BACKGROUNDS,
            max_objects=8,
            sizes=(0.03, 0.6),
            even_sizes=True,
            hidden=0.5,
            contrast=70,
            side=256,
            elongation=2,
            elongation_spread=0.35,
            blur=0.15,
        )


WORLDS = {"mini": World.mini, "full": World.full}  # by the name that commands take
