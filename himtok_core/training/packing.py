"""Conversations of a batch as tensors: those about one picture lie one after another in its row.

A row begins with the picture; each conversation sees that and itself. Everything that a learning step needs
to know of places is decided here, so that the process that learns has nothing left to do but compute. What
is still missing are the tokens of masks, which the mask tokenizer makes there.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.mask_questions import MAX_TOKENS
from .batch import Batch
from .branches import IGNORE, Branch, QuestionWriter

DECISION_WEIGHT = 4.0  # of a token that alone is the answer: see `Branch.decisions`


@dataclass
class Packed(Batch):
    """Rows of B pictures, T tokens each. A state is named by (row, column) and says the token after it.

    Attributes:
        ids: int64 (B, T). positions: int64 (B, T), as if each conversation were alone.
        owner: int64 (B, T), which conversation a token belongs to; -1 for the picture and what is around it,
            -2 after the end.
        read: int64 (4, R), row, column, mask, number: the mask tokens that can be read.
        said: int64 (2, N), the states that say something.
        wanted: int64 (N,), what they should say. weights: float32 (N,), how much of it counts.
        drawn: int64 (3, D), place among N, mask, number: those that say mask tokens.
        coordinates: int64 (2, C), place among N, value: those that say a coordinate.
        bounded: int64 (E,), places among N of mask tokens of which a certain number was asked for.
        looks: int64 (3, L), row, column, and which look it belongs to.
        look_patches: bool (K, P), the patches of the objects that a look is about.
        look_boxes: float32 (K, 4), the box around them, as in DenseTargets.
        left: int64 (3, M), row, column, how many tokens are left of the mask that is being drawn.
        complete: int64 (3, A), row, column, mask: the states that begin masks of all tokens.
        conversations: how many there are.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    owner: torch.Tensor
    read: torch.Tensor
    said: torch.Tensor
    wanted: torch.Tensor
    weights: torch.Tensor
    drawn: torch.Tensor
    coordinates: torch.Tensor
    bounded: torch.Tensor
    looks: torch.Tensor
    look_patches: torch.Tensor
    look_boxes: torch.Tensor
    left: torch.Tensor
    complete: torch.Tensor
    conversations: int

    def with_tokens(self, tokens: torch.Tensor) -> "Packed":
        """The same with the tokens of its masks, int64 (masks, 32), as ids of the vocabulary."""
        ids, wanted = self.ids.clone(), self.wanted.clone()
        row, column, mask, number = self.read
        ids[row, column] = tokens[mask, number]
        place, mask, number = self.drawn
        wanted[place] = tokens[mask, number]
        return replace(self, ids=ids, wanted=wanted)


def pack(
    branches: list[Branch], writer: QuestionWriter, owner: np.ndarray, boxes: np.ndarray
) -> Packed:
    """Lay out the conversations of a batch.

    Args:
        owner: int64 (B, P), boxes: float32 (N, 4), as in DenseTargets. An object that owns no patch cannot be
            looked at.
    """
    begin = len(writer.prefix_ids)
    starts, ends = [], [begin] * len(owner)  # of each conversation in its row, and of each row
    for branch in branches:
        starts.append(ends[branch.scene])
        ends[branch.scene] += len(branch.ids)
    longest = -(-max(ends) // 8) * 8  # a GPU's attention wants rows of whole eights
    ids, positions, owners = (np.full((len(owner), longest), fill) for fill in (0, 0, -2))
    labels = np.full((len(owner), longest), IGNORE)
    weights = np.ones((len(owner), longest), np.float32)
    ids[:, :begin], positions[:, :begin], owners[:, :begin] = writer.prefix_ids, np.arange(begin), -1
    seen = np.zeros(len(boxes) + 2, bool)  # by object; the last two are the background and what is unclear
    seen[owner] = True
    read, drawn, bounded, looks, patches, look_boxes, left, complete = ([] for _ in range(8))
    for number, (branch, start) in enumerate(zip(branches, starts, strict=True)):
        row = branch.scene
        here = row, slice(start, start + len(branch.ids))
        ids[here], labels[here], owners[here] = branch.ids, branch.labels, number
        positions[here] = np.arange(begin, begin + len(branch.ids))
        weights[row, np.array(branch.decisions, int) + start] = DECISION_WEIGHT
        for first, length, mask in branch.shown:
            read += [(row, start + first + n, mask, n) for n in range(length)]
        for first, length, mask in branch.runs:
            column = start + first
            drawn += [(row, column + n, mask, n) for n in range(length)]
            left += [(row, column - 1 + n, length - n) for n in range(length + 1)]
            if first + length in branch.decisions:
                bounded += [(row, column + n) for n in range(length)]
            if length == MAX_TOKENS:
                complete.append((row, column - 1, mask))
        for first, last, objects in branch.looks:
            objects = np.array(objects)
            if seen[objects].any():
                looks += [(row, start + n - 1, len(patches)) for n in range(first, last)]
                patches.append((owner[row] == objects[:, None]).any(0))
                around = boxes[objects]
                look_boxes.append([*around[:, :2].min(0), *around[:, 2:].max(0)])
    spoken = np.nonzero(labels != IGNORE)  # never the first place of a row
    place = np.zeros(labels.shape, np.int64)  # among those
    place[spoken] = np.arange(len(spoken[0]))
    wanted = labels[spoken]
    value = np.array([writer.values.get(token, -1) for token in wanted.tolist()], np.int64)
    value[~writer.inside_boxes(labels)[spoken]] = -1
    coordinates = np.flatnonzero(value >= 0)
    drawn, bounded = _table(drawn, 4), _table(bounded, 2)
    return Packed(
        *(torch.from_numpy(x) for x in (ids, positions, owners)),
        read=torch.from_numpy(_table(read, 4)),
        said=torch.from_numpy(np.stack([spoken[0], spoken[1] - 1])),
        wanted=torch.from_numpy(wanted),
        weights=torch.from_numpy(weights[spoken]),
        drawn=torch.from_numpy(np.stack([place[drawn[0], drawn[1]], drawn[2], drawn[3]])),
        coordinates=torch.from_numpy(np.stack([coordinates, value[coordinates]])),
        bounded=torch.from_numpy(place[bounded[0], bounded[1]]),
        looks=torch.from_numpy(_table(looks, 3)),
        look_patches=torch.from_numpy(np.array(patches, bool).reshape(-1, owner.shape[1])),
        look_boxes=torch.from_numpy(np.array(look_boxes, np.float32).reshape(-1, 4)),
        left=torch.from_numpy(_table(left, 3)),
        complete=torch.from_numpy(_table(complete, 3)),
        conversations=len(branches),
    )


def _table(rows: list[tuple[int, ...]], columns: int) -> np.ndarray:
    """int64 (columns, rows)."""
    return np.array(rows, np.int64).reshape(-1, columns).T.copy()
