"""Sizes of a SAM: the three public ones, the reference's finetuned variant, and our small one.

Knows sizes and their file. The networks are `modeling`'s work.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from ..errors import CheckpointError

MODEL_TYPE = "himtok-sam"
CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class SamConfig:
    """Sizes of the three parts: image encoder, prompt encoder, mask decoder.

    Attributes:
        image_size: side of the square input in pixels. patch_size: side of a patch; the embedding has
            `grid` x `grid` cells.
        width, depth, heads: of the image encoder. window: side of its attention windows in patches.
        global_layers: its layers that attend to the whole picture instead.
        prompt_dim: channels of the embedding, the prompts and the mask decoder.
        mask_channels: inside the prompt encoder's mask convolutions.
        decoder_layers, decoder_heads, decoder_mlp, iou_hidden: of the mask decoder.
        extra_masks: masks the decoder can draw beside the one that is used (three in public SAM).
        reference: the reference implementation's changes: queries scaled before relative positions, two kinds
            of points and no box, a zero padding point, other mask convolutions, the mean over all masks.
        stretch: the picture fills the square input, as a mask of the de-tokenizer does; else its longer side
            does and the rest is zeros.
    """

    image_size: int = 1024
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    window: int = 14
    global_layers: tuple[int, ...] = (2, 5, 8, 11)
    prompt_dim: int = 256
    mask_channels: int = 16
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_hidden: int = 256
    extra_masks: int = 3
    reference: bool = False
    stretch: bool = False

    @property
    def grid(self) -> int:
        """Cells of the embedding in each direction."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Side of a mask prompt and of the masks that the decoder draws."""
        return 4 * self.grid

    @classmethod
    def vit_b(cls) -> Self:
        """Public SAM, the smallest: 94 million parameters."""
        return cls()

    @classmethod
    def vit_l(cls) -> Self:
        """Public SAM: 312 million parameters."""
        return cls(width=1024, depth=24, heads=16, global_layers=(5, 11, 17, 23))

    @classmethod
    def vit_h(cls) -> Self:
        """Public SAM, the largest: 641 million parameters."""
        return cls(width=1280, depth=32, heads=16, global_layers=(7, 15, 23, 31))

    @classmethod
    def reference_vit_l(cls) -> Self:
        """The variant that the paper's authors finetuned (the supplement, section C)."""
        sizes = {"width": 1024, "depth": 24, "heads": 16, "global_layers": (5, 11, 17, 23)}
        return cls(**sizes, reference=True, stretch=True)

    @classmethod
    def mini(cls) -> Self:
        """Ours, for a processor and for scenes of about 160 x 160 pixels."""
        return cls(
            image_size=128,
            patch_size=8,
            width=128,
            depth=4,
            heads=4,
            window=8,
            global_layers=(1, 3),
            prompt_dim=128,
            decoder_heads=4,
            decoder_mlp=256,
            iou_hidden=128,
            extra_masks=0,
            stretch=True,
        )

    def save(self, folder: Path) -> None:
        """Writes config.json."""
        text = json.dumps({"model_type": MODEL_TYPE, **asdict(self)}, indent=2)
        (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads config.json.

        Raises:
            CheckpointError: if it cannot be read or is no config of a SAM.
        """
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(entries, dict) or entries.pop("model_type", None) != MODEL_TYPE:
            raise CheckpointError(f'{path} is no config of a SAM: it lacks "model_type": "{MODEL_TYPE}".')
        known = {field.name: field.type for field in fields(cls)}
        if entries.keys() != known.keys():
            wrong = ", ".join(sorted(entries.keys() ^ known.keys()))
            raise CheckpointError(f"{path} has missing or unknown entries: {wrong}.")
        entries["global_layers"] = tuple(entries["global_layers"])
        for name, value in entries.items():
            wanted = tuple if name == "global_layers" else known[name]
            if type(value) is not wanted:
                raise CheckpointError(f"{path}: {name} must be {wanted.__name__}, not {value!r}.")
        return cls(**entries)
