"""What every visual token should know: the name, the box and the shape of the object in its patch; and where
the language model should look.

Names are scored against the language model's own embeddings of the words, so that a patch of an apple
already looks like the word "apple" to it. The heads are thrown away after training.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..data.mask_questions import MAX_TOKENS
from .scene_batches import SHAPE_SIDE, DenseTargets


class DenseHeads(nn.Module):
    """Heads on the visual tokens (B, P, D).

    Args:
        width: D. name_ids: for each name of the world its word's token ids.
        codes: number of values that describe a mask's code vectors, L x token_size.
    """

    def __init__(self, width: int, name_ids: list[list[int]], codes: int):
        super().__init__()
        longest = max(len(ids) for ids in name_ids)
        padded = [ids + [0] * (longest - len(ids)) for ids in name_ids]
        shares = [[1 / len(ids)] * len(ids) + [0.0] * (longest - len(ids)) for ids in name_ids]
        self.register_buffer("name_ids", torch.tensor(padded), persistent=False)  # (names, longest)
        self.register_buffer("name_shares", torch.tensor(shares), persistent=False)  # of their mean
        self.background = nn.Parameter(torch.randn(width) * 0.3)
        self.log_scale = nn.Parameter(torch.tensor(-2.3))
        self.box = nn.Linear(width, 4)
        self.shape = nn.Linear(width, SHAPE_SIDE**2)
        self.codes = nn.Linear(width, codes)
        self.look = nn.Linear(width, width)
        self.answer_box = nn.Linear(width, 4)
        self.left = nn.Linear(width, MAX_TOKENS + 1)

    def name_logits(self, tokens: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """tokens (N, D), embedding table (V, D) -> (N, names + 1), background last."""
        names = (embedding[self.name_ids] * self.name_shares[..., None]).sum(1)
        return tokens @ torch.cat([names, self.background[None]]).T * self.log_scale.exp()

    def forward(
        self, visual: torch.Tensor, targets: DenseTargets, embedding: torch.Tensor, codes: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """-> total loss and the parts of it that are worth a look.

        Args:
            codes: unit code vectors (N, L, token_size) of the objects' masks, or None to leave them out.
        """
        owner, flat = targets.owner.flatten(), visual.flatten(0, 1)  # (B * P,), (B * P, D)
        inside, known = owner >= 0, owner >= -1
        wanted = torch.full_like(owner, len(self.name_ids))
        wanted[inside] = targets.names[owner[inside]]
        logits = self.name_logits(flat[known], embedding)
        wanted = wanted[known]
        name = F.cross_entropy(logits, wanted, weight=self._weights(logits))
        right = (logits.argmax(1) == wanted)[wanted < len(self.name_ids)].float().mean()
        mine = owner[inside]
        box = F.l1_loss(self.box(flat[inside]).sigmoid(), targets.boxes[mine])
        shape = F.binary_cross_entropy_with_logits(self.shape(flat[inside]), targets.shapes[mine].flatten(1))
        loss = name + 5 * box + 2 * shape
        shown = {"names": right, "box_l1": box.detach(), "shape": shape.detach()}
        if codes is not None:
            drawn = self.codes(flat[inside]).unflatten(1, codes.shape[1:])
            distance = (1 - F.cosine_similarity(drawn, codes[mine], dim=-1)).mean()
            loss = loss + distance
            shown["codes"] = distance.detach()
        return loss, shown

    def looking(
        self,
        states: torch.Tensor,
        visual: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
        owner: torch.Tensor,
        wanted: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How well the language model's states, halfway up, point at the patches of what they talk about.

        Args:
            states: (B, T, D). visual: (B, P, D) visual tokens.
            rows, columns: int64 (N,), the states that look.
            owner: int64 (B, P), as in DenseTargets.
            wanted: bool (N, P), the patches of the right objects; no row may be empty.

        Returns:
            Mean of -log(share of attention on the right patches); how often the best patch is a right one.
        """
        # All states of a row with the patches of its picture: far quicker than handing out a copy of its
        # picture to every state that looks.
        scores = (self.look(states) @ visual.mT)[rows, columns]  # (N, P)
        scores = scores.float() * states.shape[-1] ** -0.5
        scores = scores.masked_fill((owner == -2)[rows] & ~wanted, -torch.inf)
        inside = scores.masked_fill(~wanted, -torch.inf).logsumexp(1)
        right = wanted.gather(1, scores.argmax(1, keepdim=True)).float().mean()
        return (scores.logsumexp(1) - inside).mean(), right.detach()

    def _weights(self, logits: torch.Tensor) -> torch.Tensor:
        weights = torch.ones_like(logits[0])
        weights[-1] = 0.3  # most patches are background
        return weights
