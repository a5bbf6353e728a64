"""Drawing many layouts at once on any device: what `data.scenes` does for one picture on the processor.

Rendering on a processor cannot feed a GPU. Here every picture is composed on the device, straight at the
square size that the vision tower sees, from all drawings packed into one tensor. Knows pixels only; what a
scene holds was decided by `data.layouts`, and both ways to draw share the formulas of `data.backgrounds` and
`data.figures`. Left out is JPEG's compression.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from ..data import backgrounds, figures
from ..data.layouts import Layout, Placement
from ..data.sprites import load_sheet, places
from ..data.world import SHAPES, World

_OVERSAMPLING = 2  # samples a pixel and direction
_LEVELS = 5  # of the pyramid of drawings, each half as large as the one before


@dataclass
class Composites:
    """A batch of drawn layouts.

    Attributes:
        pictures: float32 (B, 3, S, S), RGB, 0..255, each stretched to a square.
        owner: int64 (B, S, S), the index of the placement that each pixel shows, -1 for the background.
    """

    pictures: torch.Tensor
    owner: torch.Tensor


class Compositor:
    """Draws layouts of a world.

    Args:
        world: that the layouts were made for. size: side S of the pictures in pixels.
        device: where they are drawn.
    """

    def __init__(self, world: World, size: int, device: torch.device | str = "cpu"):
        self.size, self.device = size, torch.device(device)
        self._samples = _OVERSAMPLING * size
        codes = places(world.sprites)
        styles = sorted({style for concept in world.concepts for style in concept.styles})
        sheets = [load_sheet(style, world.sprites) for style in styles]
        self._side = sheets[0].shape[1]
        white = [np.asarray(figures.outline(shape, self._side)) for shape in SHAPES]
        outlines = np.stack([np.stack([alpha] * 4, -1) for alpha in white])
        cells = torch.from_numpy(np.concatenate([*sheets, outlines])).to(self.device)  # (N, side, side, 4)
        self._places = {
            (style, code): index * len(codes) + place
            for (index, style), (code, place) in product(enumerate(styles), codes.items())
        }
        self._places |= {("figure", shape): len(cells) - len(SHAPES) + i for i, shape in enumerate(SHAPES)}
        filled = (cells[..., 3] > 0).cpu().numpy()
        widths, heights = filled.any(1), filled.any(2)  # which columns and rows of a cell are used
        self._extents = np.stack([widths.sum(1), heights.sum(1)], 1) / self._side  # (N, 2), share of the cell
        self._extents[-len(SHAPES) :] = 1  # figures stand in their square as they are
        self._pyramid = _pyramid(cells)

    @torch.no_grad()
    def __call__(self, layouts: list[Layout]) -> Composites:
        """Draw a batch; layouts may have any sizes."""
        canvas = torch.stack([self._background(layout) for layout in layouts])  # (B, 3, T, T)
        owner = torch.full((len(layouts), *canvas.shape[2:]), -1, device=self.device)
        for depth in range(max((len(layout.placements) for layout in layouts), default=0)):
            rows = [i for i, layout in enumerate(layouts) if len(layout.placements) > depth]
            drawn = self._draw([(layouts[i], layouts[i].placements[depth]) for i in rows])  # (b, 4, T, T)
            index = torch.tensor(rows, device=self.device)
            canvas[index] = drawn[:, :3] + canvas[index] * (1 - drawn[:, 3:])
            owner[index] = torch.where(drawn[:, 3] > 0.5, depth, owner[index])
        pictures = torch.stack([self._photograph(c, x) for c, x in zip(canvas, layouts, strict=True)])
        pictures = F.avg_pool2d(pictures, _OVERSAMPLING)
        middle = _OVERSAMPLING // 2
        return Composites(pictures.clamp(0, 255), owner[:, middle::_OVERSAMPLING, middle::_OVERSAMPLING])

    def _steps(self, length: int) -> torch.Tensor:
        """(T,): where samples lie along a side of `length` pixels."""
        return (torch.arange(self._samples, device=self.device) + 0.5) * (length / self._samples)

    def _background(self, layout: Layout) -> torch.Tensor:
        width, height = layout.size
        x, y = self._steps(width), self._steps(height)

        def stretch(grid: np.ndarray) -> torch.Tensor:
            values = torch.from_numpy(grid).to(self.device)
            down, across = _bicubic(y / height, grid.shape[0]), _bicubic(x / width, grid.shape[1])
            return down @ values @ across.T

        # The formulas count pixels from the middle of the first one.
        across, down = x[None] - 0.5, y[:, None] - 0.5
        share = backgrounds.blend(layout.background, across, down, layout.size, stretch, torch)
        share = share.float().expand(self._samples, self._samples)
        first, second = (
            torch.tensor(colour, dtype=torch.float32, device=self.device)[:, None, None]
            for colour in (layout.background.first, layout.background.second)
        )
        return (first * (1 - share) + second * share).clamp(0, 255)

    def _draw(self, placed: list[tuple[Layout, Placement]]) -> torch.Tensor:
        """One placement of each of several layouts -> (b, 4, T, T): colours times alpha, 0..255; alpha."""
        inside, levels, cells = [], [], []
        for layout, placement in placed:
            thing = placement.thing
            cells.append(self._places[thing.style, thing.code or thing.shape])
            inside.append(self._inside(layout, placement))
            finest = min(side / self._samples for side in layout.size)
            texels = self._side * max(self._extents[cells[-1]]) / max(placement.extent) * finest
            levels.append(min(_LEVELS - 1, max(0, round(math.log2(texels)))))
        drawn = torch.zeros(len(placed), 4, self._samples, self._samples, device=self.device)
        for level in set(levels):
            rows = [i for i, other in enumerate(levels) if other == level]
            grids = torch.stack([inside[i] for i in rows])  # (b, T, T, 2), -1..1 over the drawing
            spans = torch.tensor(self._extents[[cells[i] for i in rows]], dtype=torch.float32)
            grids = (grids + 1) * spans.to(self.device)[:, None, None] - 1  # over the cell
            some = self._pyramid[level][[cells[i] for i in rows]].float()
            drawn[rows] = F.grid_sample(some, grids, align_corners=False)
        drawn[:, 3] /= 255
        for row, (_, placement) in enumerate(placed):
            if placement.thing.fill is not None:
                drawn[row, :3] = self._filled(placement.thing.fill, inside[row]) * drawn[row, 3]
        return drawn

    def _inside(self, layout: Layout, placement: Placement) -> torch.Tensor:
        """(T, T, 2): where each sample lies in the drawing before it was turned, x and y, -1..1."""
        x = self._steps(layout.size[0])[None] - placement.centre[0]
        y = self._steps(layout.size[1])[:, None] - placement.centre[1]
        turn = math.radians(placement.angle)
        u = (x * math.cos(turn) - y * math.sin(turn)) * (2 / placement.extent[0])
        v = (x * math.sin(turn) + y * math.cos(turn)) * (2 / placement.extent[1])
        return torch.stack([-u if placement.flipped else u, v], -1)

    def _filled(self, fill: figures.Fill, inside: torch.Tensor) -> torch.Tensor:
        first, second = (
            torch.tensor(colour, dtype=torch.float32, device=self.device)[:, None, None]
            for colour in (fill.first, fill.second)
        )
        if fill.texture == "plain":
            return first
        place = (inside + 1) / 2
        return torch.where(figures.in_second_colour(fill, place[..., 0], place[..., 1], torch), second, first)

    def _photograph(self, picture: torch.Tensor, layout: Layout) -> torch.Tensor:
        camera = layout.camera
        if camera.gain is not None:
            picture = (picture * camera.gain).clamp(max=255)
        if camera.blur is not None:
            for axis, side in ((2, layout.size[0]), (1, layout.size[1])):
                picture = _blurred(picture, camera.blur * self._samples / side, axis)
        if camera.noise is not None:
            noise = torch.from_numpy(camera.noise).float().permute(2, 0, 1)[None].to(self.device)
            picture = picture + F.interpolate(noise, picture.shape[1:], mode="area")[0]
        return picture.clamp(0, 255)


def _pyramid(cells: torch.Tensor) -> list[torch.Tensor]:
    """uint8 RGBA (N, side, side, 4) -> the drawings at full, half, quarter ... size, colours times alpha."""
    levels, chunks = [], []
    for chunk in cells.split(256):
        rgba = chunk.permute(0, 3, 1, 2).float()
        rgba = torch.cat([rgba[:, :3] * rgba[:, 3:] / 255, rgba[:, 3:]], 1)
        chunks.append([F.avg_pool2d(rgba, 2**level).round().byte() for level in range(_LEVELS)])
    for level in range(_LEVELS):
        levels.append(torch.cat([chunk[level] for chunk in chunks]))
    return levels


def _bicubic(at: torch.Tensor, count: int) -> torch.Tensor:
    """(T, count): weights of a row of `count` numbers at places 0..1, by Keys' kernel with a = -0.5."""
    distance = (at[:, None] * count - torch.arange(count, device=at.device) - 0.5).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    return weights / weights.sum(1, keepdim=True)


def _blurred(picture: torch.Tensor, sigma: float, axis: int) -> torch.Tensor:
    """A picture (3, H, W) blurred along an axis by a Gaussian of `sigma` samples."""
    reach = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=picture.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, *((1, -1) if axis == 2 else (-1, 1)))
    padding = (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach)
    padded = F.pad(picture[:, None], padding, mode="replicate")
    return F.conv2d(padded, kernel)[:, 0]
