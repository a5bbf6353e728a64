"""The whole model as one transformers model: InternVL plus the mask tokenizer, in one checkpoint.

The only place where the language model and the mask tokenizer meet. Running it (streaming, mask runs,
caches) is the work of `generation`.
"""

from typing import Self

from accelerate.hooks import remove_hook_from_module
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, InternVLForConditionalGeneration
from transformers.integrations.accelerate import load_offloaded_parameter

from ..mask_tokenizer import MaskTokenizer, MaskTokenizerConfig
from .configuration import HimtokConfig

# What quantisation leaves in the number type of the computation: small, or sensitive, or used directly.
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "mask_tokenizer", "lm_head"]


class HimtokForConditionalGeneration(InternVLForConditionalGeneration):
    """Vision tower, projector, language model and output head as in InternVL, and `mask_tokenizer`.

    `forward` and `generate` are InternVL's: token ids (B, T) and pixel values (tiles, 3, S, S) in, logits
    (B, T, vocabulary) out. The mask tokenizer takes no part in them; it turns the mask tokens of an answer
    into a mask.

    Attributes:
        model: `vision_tower`, `multi_modal_projector` and `language_model`.
        lm_head: the output head.
        mask_tokenizer: MaskTokenizer.
    """

    config_class = HimtokConfig
    _no_split_modules = ["MaskTokenizer"]

    def __init__(self, config: HimtokConfig):
        super().__init__(config)
        self.mask_tokenizer = MaskTokenizer(config.mask_tokenizer_config)
        self.post_init()  # again: InternVL's own call came before the mask tokenizer was there

    @classmethod
    def from_pretrained(cls, *args: object, **kwargs: object) -> Self | tuple[Self, dict]:
        """As in transformers; only the mask tokenizer is in one piece and in memory under every device map.

        Its methods are called directly, past the hooks that would move data and weights to and fro.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        weights = {
            name: load_offloaded_parameter(model, f"mask_tokenizer.{name}") if tensor.is_meta else tensor
            for name, tensor in model.mask_tokenizer.state_dict().items()
        }
        remove_hook_from_module(model.mask_tokenizer, recurse=True)
        model.mask_tokenizer.load_state_dict(weights, assign=True)
        return loaded


AutoConfig.register(MaskTokenizerConfig.model_type, MaskTokenizerConfig)
AutoModel.register(MaskTokenizerConfig, MaskTokenizer)
AutoConfig.register(HimtokConfig.model_type, HimtokConfig)
AutoModelForImageTextToText.register(HimtokConfig, HimtokForConditionalGeneration)
