"""himtok-mini before it is trained: its vocabulary, its sizes, its initial weights.

Knows which sizes suit two processor cores, to run on and to be trained on, and which initial values learn at
these sizes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn.utils import parametrize
from transformers import InternVLVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from ..lmm import HimtokConfig, HimtokForConditionalGeneration, HimtokProcessor
from ..mask_tokenizer import MaskTokenizerConfig
from ..mask_tokenizer.modeling import sine_positions


@dataclass(frozen=True)
class Sizes:
    """How large a model is.

    Attributes:
        image_size, patch_size: of the vision tower, in pixels; every patch is a visual token.
        width: of vision tower and language model. vision_layers, text_layers, heads, text_mlp: theirs.
        mask_tokenizer: sizes of the mask tokenizer.
    """

    image_size: int
    patch_size: int
    width: int
    vision_layers: int
    text_layers: int
    heads: int
    text_mlp: int
    mask_tokenizer: MaskTokenizerConfig


# For each world what its scenes ask for. The small one's model can be trained on two processor cores; that of
# the full one sees 3 % of a picture's side, wants a GPU for its training, and stays under 30 MB in float16.
SIZES = {
    "mini": Sizes(128, 16, 192, 6, 4, 6, 512, MaskTokenizerConfig.mini()),
    "full": Sizes(
        *(256, 16, 256, 5, 5, 8, 640),
        MaskTokenizerConfig(
            mask_size=128,
            patch_size=16,
            encoder_width=160,
            encoder_layers=4,
            encoder_heads=5,
            decoder_width=160,
            decoder_layers=4,
            decoder_heads=5,
            ffn_hidden_channels=320,
            ffn_out_channels=96,
            pixel_hidden_channels=8,
            pixel_channel_mult=(1, 1, 2, 4, 8),
            pixel_num_res_blocks=1,
            pixel_out_channels=1,
            group_norm_groups=4,
        ),
    ),
}
SYSTEM_MESSAGE = "You see a picture and draw masks."
TAGS = (
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
    "<|mt_start|>",
    "<|mt_end|>",
)
# A word takes its leading space along, punctuation a space that a number follows, so that "[[12, 34]]" is
# five tokens; a number up to four digits stays whole.
WORDS = r" ?[A-Za-z]+|\d{1,4}|[^\sA-Za-z\d]+(?: (?=\d))?|\s+"


def build_processor(texts: Iterable[str], sizes: Sizes = SIZES["mini"]) -> HimtokProcessor:
    """Train the byte-level BPE vocabulary on `texts`; every number from 0 to 1000 is one token in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    masks = [f"<|mt_{k}|>" for k in range(sizes.mask_tokenizer.codebook_size)]
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,  # never reached: words are merged whole, and then there is nothing left to merge
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [str(n) for n in range(1001) for _ in range(3)]
    tokenizer.train_from_iterator([*texts, *numbers], trainer)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *TAGS, *masks]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    return HimtokProcessor(
        tokenizer=fast,
        image_size=sizes.image_size,
        max_tiles=1,
        num_image_tokens=(sizes.image_size // sizes.patch_size) ** 2,
        system_message=SYSTEM_MESSAGE,
    )


def build_config(
    processor: HimtokProcessor, mask_tokenizer: MaskTokenizerConfig, sizes: Sizes = SIZES["mini"]
) -> HimtokConfig:
    """The model's config for a vocabulary."""
    tokenizer = processor.tokenizer
    vision = InternVLVisionConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        attention_bias=True,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        layer_scale_init_value=1.0,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.width,
        intermediate_size=sizes.text_mlp,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    return HimtokConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        mask_tokenizer_config=mask_tokenizer.to_dict(),
        downsample_ratio=1.0,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        mask_start_id=tokenizer.convert_tokens_to_ids("<|mt_start|>"),
        mask_end_id=tokenizer.convert_tokens_to_ids("<|mt_end|>"),
        first_mask_id=tokenizer.convert_tokens_to_ids("<|mt_0|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def build_model(config: HimtokConfig) -> HimtokForConditionalGeneration:
    """Fresh weights. Embeddings and positions start large enough to matter, which is what makes it learn."""
    model = HimtokForConditionalGeneration(config)
    embeddings = model.model.vision_tower.embeddings
    nn.init.normal_(embeddings.cls_token, std=0.3)
    side = round(config.image_seq_length**0.5)
    embeddings.position_embeddings.copy_(sine_positions(side, config.vision_config.hidden_size)[None])
    nn.init.normal_(model.model.language_model.embed_tokens.weight, std=0.5)
    for module in [*model.model.vision_tower.modules(), *model.model.language_model.modules()]:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for layer in model.model.vision_tower.encoder.layer:
        layer.attention.projection_layer.weight.mul_(0.4)
        layer.mlp.fc2.weight.mul_(0.4)
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.mul_(0.4)
        layer.mlp.down_proj.weight.mul_(0.4)
    projector = model.model.multi_modal_projector
    nn.init.normal_(projector.linear_1.weight, std=projector.linear_1.in_features**-0.5)
    nn.init.normal_(projector.linear_2.weight, std=projector.linear_2.in_features**-0.5)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    return model


class StructuredRows(nn.Module):
    """weight + features @ matrix: rows of a table that share what is known of them.

    A mask token's row moves with its code vector and a number's row with its value, so that what is
    learned of one serves its neighbours. `training.scene_lmm.save` merges them into a plain table.
    """

    def __init__(self, features: torch.Tensor, matrix: torch.Tensor):
        super().__init__()
        self.register_buffer("features", features)
        self.matrix = nn.Parameter(matrix)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.features @ self.matrix


def row_features(processor: HimtokProcessor, config: HimtokConfig, codebook: torch.Tensor) -> torch.Tensor:
    """(vocabulary, F): a mask token's code vector, a number's sine and cosine waves, zeros for the rest."""
    tokenizer = processor.tokenizer
    waves = 12
    features = torch.zeros(len(tokenizer), codebook.shape[1] + 2 * waves)
    features[config.first_mask_id : config.last_mask_id + 1, : codebook.shape[1]] = codebook
    cycles = torch.exp(torch.linspace(math.log(0.5), math.log(40), waves))  # over the scale of 0 to 1000
    for token, index in tokenizer.get_vocab().items():
        if token.isascii() and token.isdigit() and int(token) <= 1000 and str(int(token)) == token:
            turn = 2 * math.pi * cycles * int(token) / 1000
            features[index, codebook.shape[1] :] = torch.cat([turn.sin(), turn.cos()])
    return features


@torch.no_grad()
def share_rows(model: HimtokForConditionalGeneration, features: torch.Tensor, fresh: torch.Tensor) -> None:
    """Put StructuredRows on the embedding table and the output head.

    Args:
        features: (vocabulary, F), as `row_features` gives them.
        fresh: bool (vocabulary,), rows that have learned nothing yet: they begin as what they share. The
            others keep their values, split into what they share (by least squares) and the rest.
    """
    shared = features.abs().sum(1) > 0
    kept, fresh = shared & ~fresh, shared & fresh
    used = features[kept].abs().sum(0) > 0
    for module, scale in ((model.model.language_model.embed_tokens, 0.3), (model.lm_head, 0.02)):
        rows = module.weight
        matrix = torch.randn(features.shape[1], rows.shape[1], device=rows.device) * scale
        if kept.any():
            matrix[used] = torch.linalg.lstsq(features[kept][:, used], rows[kept]).solution
        rows[fresh] = 0
        rows[kept] -= features[kept] @ matrix
        structure = StructuredRows(features.clone(), matrix)
        parametrize.register_parametrization(module, "weight", structure)
