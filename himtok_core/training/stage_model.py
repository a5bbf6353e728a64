"""The losses of the paper's language-model training, as one module that takes a batch and gives losses.

Everything that needs weights happens inside `forward`, because that is where a model that is spread over
several devices gathers them. For the same reason every process passes through the same parts in every
batch: the vision tower even for text alone, the de-tokenizer even where there is nothing to draw.
"""

import torch
import torch.nn.functional as F

from ..lmm import HimtokForConditionalGeneration
from ..mask_tokenizer import MaskTokenizer
from .conversations import IGNORE
from .losses import grained_labels, mask_loss
from .reference_losses import mask_losses

SHARPENING = 2.0  # of the logits over the mask tokens, as decoding does it
DICE_WEIGHT = 0.25


class StageModel(torch.nn.Module):
    """A model with its training losses.

    Args:
        network: the model. draws: whether there is a mask loss. reference: the reference implementation's
            mask losses instead of those of the paper's section B.
    """

    def __init__(self, network: HimtokForConditionalGeneration, draws: bool, reference: bool = False):
        super().__init__()
        self.network, self.draws, self.reference = network, draws, reference
        # What FSDP keeps together: the layers of the language model and of the vision tower.
        layers = network.model.language_model.layers[0], network.model.vision_tower.encoder.layer[0]
        self._no_split_modules = [type(layer).__name__ for layer in layers]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Losses of a batch of `conversations.collate`.

        Its `levels` are int64 (D, n), n prefix lengths for each drawn run; under the reference's losses
        (n,), the level indices of the batch.

        Returns:
            `text`: scalar, mean cross-entropy of the labelled tokens.
            `mask`: scalar, mean over the drawn runs of the sum over their levels; 0 where nothing is drawn.
        """
        ids, labels = with_mask_tokens(self.network, batch)
        states = self._states(ids, batch)
        spoken = labels[:, 1:] != IGNORE
        logits = self.network.lm_head(states[:, :-1][spoken])  # (labelled tokens, vocabulary)
        text = F.cross_entropy(logits.float(), labels[:, 1:][spoken])
        if not self.draws:
            return {"text": text, "mask": torch.zeros_like(text)}
        return {"text": text, "mask": self._mask_loss(logits, spoken, batch)}

    def _states(self, ids: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The language model's last hidden states (B, T, D)."""
        model = self.network.model
        seen = model.get_image_features(pixel_values=batch["pixel_values"]).pooler_output  # (tiles, P, D)
        embeds = model.language_model.embed_tokens(ids)
        places = (ids == self.network.config.image_token_id)[..., None]
        embeds = embeds.masked_scatter(places, seen[batch["image_flags"]].to(embeds.dtype))
        if not batch["image_flags"].any():
            embeds = embeds + 0 * seen.sum()  # a blank tile: nothing to see, but a part of the graph
        return model.language_model(
            inputs_embeds=embeds, attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state

    def _mask_loss(
        self, logits: torch.Tensor, spoken: torch.Tensor, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The loss on what the drawn runs' probabilities look like as masks."""
        config, tokenizer = self.network.config, self.network.mask_tokenizer
        count = config.mask_tokenizer_config.num_latent_tokens
        rows, places, masks = batch["drawn"].unbind(1)
        # Where the logits of each run begin: as many labelled tokens come before it, rows first.
        before = spoken.flatten().cumsum(0) - 1
        first = before[rows * spoken.shape[1] + places - 1]
        chosen = logits[first[:, None] + torch.arange(count, device=first.device)]
        chosen = chosen[..., config.first_mask_id : config.last_mask_id + 1].float()
        probabilities = (SHARPENING * chosen).softmax(-1)  # (D, L, K)
        targets, levels = batch["masks"][masks], batch["levels"]
        if not len(rows):  # a blank mask, for the sake of the graph
            size = config.mask_tokenizer_config
            blank = logits.new_zeros(1, count, size.codebook_size)
            drawn = tokenizer.draw(tokenizer.quantize.expectation(blank.to(tokenizer.dtype)))
            return 0 * drawn.float().sum()
        if self.reference:
            complete, partial = mask_losses(tokenizer, probabilities, targets, levels.tolist())
            return complete + partial
        return hierarchical_mask_loss(tokenizer, probabilities, targets, levels)


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """No mixed precision on the tensor's device: for targets, which nothing is gained by rounding."""
    return torch.autocast(tensor.device.type, enabled=False)


def with_mask_tokens(
    network: HimtokForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (B, T) with the tokens of the masks in their runs; a run of n gets the first n."""
    ids, labels = batch["input_ids"].clone(), batch["labels"].clone()
    if len(batch["filled"]):
        with full_precision(ids):
            tokens = network.mask_tokenizer.encode(batch["masks"]) + network.config.first_mask_id
        for row, place, length, mask in batch["filled"].tolist():
            span = slice(place, place + length)
            ids[row, span] = tokens[mask, :length]
            labels[row, span] = torch.where(labels[row, span] == IGNORE, IGNORE, tokens[mask, :length])
    return ids, labels


def hierarchical_mask_loss(
    tokenizer: MaskTokenizer, probabilities: torch.Tensor, targets: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """The hierarchical mask loss of the paper's section B: complete masks and prefixes of them, summed.

    Args:
        probabilities: (D, L, K) over the mask tokens. targets: (D, S, S) in
            [0, 1]. levels: int64 (D, n), the prefix lengths of each, in 1..L - 1.

    Returns:
        Scalar: mean over the masks of the sum over the complete mask and its n prefixes, each binary
        cross-entropy plus 0.25 x Dice against the mask blurred to its level.
    """
    complete = levels.new_full((len(levels), 1), probabilities.shape[1])
    lengths = torch.cat([complete, levels], dim=1)  # (D, 1 + n)
    each = lengths.shape[1]
    codes = tokenizer.quantize.expectation(probabilities.to(tokenizer.dtype))
    lengths = lengths.flatten()
    logits = tokenizer.draw_logits(codes.repeat_interleave(each, dim=0), lengths).float()
    with full_precision(targets):
        labels = grained_labels(targets.repeat_interleave(each, dim=0), lengths)
    return each * mask_loss(logits, labels, DICE_WEIGHT)
