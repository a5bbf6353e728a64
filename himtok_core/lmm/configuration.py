"""Sizes and special ids of the whole model. Knows numbers only.

The processor knows texts and pictures; `released_format` knows how other checkpoints state these numbers.
"""

from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ..mask_tokenizer import MaskTokenizerConfig

RELEASED_VISION = {"attention_bias": True}  # otherwise transformers' defaults are the 300 M vision tower
RELEASED_LANGUAGE_MODEL = {
    "vocab_size": 93579,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
    "bos_token_id": 1,
    "eos_token_id": 92542,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}


class HimtokConfig(InternVLConfig):
    """An InternVL model (vision tower, projector, language model) plus the mask tokenizer.

    Without arguments these are the sizes of the released 8B model.

    Attributes:
        text_config: any causal language model of transformers; Llama if a dict without `model_type`.
        vision_config: InternVLVisionConfig; square pictures and square patches.
        mask_tokenizer_config: MaskTokenizerConfig.
        downsample_ratio: side of the grid of visual tokens over the side of the grid of patches;
            1.0 keeps every patch, 0.5 joins four of them into one token.
        image_token_id: id of `<IMG_CONTEXT>`, the place of one visual token.
        mask_start_id, mask_end_id: ids of `<|mt_start|>` and `<|mt_end|>`.
        first_mask_id: id of `<|mt_0|>`; mask token k has id `first_mask_id + k`.
        image_seq_length: visual tokens of one tile; always computed from the sizes above.
        tie_word_embeddings: whether the output head is the embedding table; the same in `text_config`.

    Raises:
        ValueError: if the sizes or ids do not fit together.
    """

    model_type = "himtok"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(AutoConfig, model_type="llama", init_kwargs=RELEASED_LANGUAGE_MODEL),
        "vision_config": SubConfigSpec(InternVLVisionConfig, init_kwargs=RELEASED_VISION),
        "mask_tokenizer_config": MaskTokenizerConfig,
    }

    mask_tokenizer_config: dict | PreTrainedConfig | None = None
    image_token_id: int = 92546
    mask_start_id: int = 92553
    mask_end_id: int = 92554
    first_mask_id: int = 92555
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        patches = self.image_size // self.vision_config.patch_size[0]  # a side
        if list(self.vision_config.image_size) != [patches * side for side in self.vision_config.patch_size]:
            raise ValueError(
                f"pictures of {self.vision_config.image_size} pixels do not divide into a square of patches "
                f"of {self.vision_config.patch_size} pixels"
            )
        joined = round(1 / self.downsample_ratio)  # patches a side that become one visual token
        if joined * self.downsample_ratio != 1 or patches % joined:
            raise ValueError(
                f"downsample_ratio {self.downsample_ratio} does not fit {patches} patches a side: "
                "it has to be 1 / n with n dividing that number"
            )
        self.image_seq_length = (patches // joined) ** 2
        first, last = min(self.special_ids), max(self.special_ids)
        if first < 0 or last >= self.text_config.vocab_size:
            raise ValueError(
                f"special ids {first} to {last} do not fit a vocabulary of {self.text_config.vocab_size}"
            )
        if self.text_config.tie_word_embeddings != self.tie_word_embeddings:
            raise ValueError(
                f"tie_word_embeddings is {self.tie_word_embeddings} here and "
                f"{self.text_config.tie_word_embeddings} in text_config"
            )

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the picture token, the ends of a mask run, the first and the last mask token."""
        return (
            self.image_token_id,
            self.mask_start_id,
            self.mask_end_id,
            self.first_mask_id,
            self.last_mask_id,
        )

    @property
    def last_mask_id(self) -> int:
        """Id of the last mask token of the codebook."""
        return self.first_mask_id + self.mask_tokenizer_config.codebook_size - 1

    @property
    def image_size(self) -> int:
        """Side of a tile in pixels."""
        return self.vision_config.image_size[0]
