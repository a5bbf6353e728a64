"""Pictures and conversations -> what the model takes in: token ids and pixel values.

Knows the chat template and how many places a picture takes in the prompt. Tiling and normalising are
`images`' work; which texts to ask is `prompts`' and the caller's.
"""

import json
from collections.abc import Sequence

import torch
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ImagesKwargs

from ..images import normalise, open_picture, tile_picture
from .configuration import HimtokConfig

IMAGE_TOKEN = "<IMG_CONTEXT>"
IMAGE_START = "<img>"
IMAGE_END = "</img>"
MASK_START = "<|mt_start|>"
MASK_END = "<|mt_end|>"
FIRST_MASK = "<|mt_0|>"
TURN_END = "<|im_end|>"

# A picture is one <IMG_CONTEXT> here; the processor widens it to <img>, all of its places, </img>. The
# `generation` block marks what the model is trained to say: the assistant's words and the end of the turn.
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
    {%- set system_message = messages[0]['content'] -%}
    {%- set messages = messages[1:] -%}
{%- else -%}
    {%- set system_message = @system_message@ -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' -}}
{%- for message in messages -%}
    {%- if message['content'] is string -%}
        {%- set content = message['content'] -%}
    {%- else -%}
        {%- set parts = namespace(text='') -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}
                {%- set parts.text = parts.text + '<IMG_CONTEXT>\\n' -%}
            {%- else -%}
                {%- set parts.text = parts.text + part['text'] -%}
            {%- endif -%}
        {%- endfor -%}
        {%- set content = parts.text -%}
    {%- endif -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}{{- content + '<|im_end|>' -}}{%- endgeneration -%}
    {%- else -%}
        {{- content + '<|im_end|>' -}}
    {%- endif -%}
    {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


class HimtokImagesKwargs(ImagesKwargs, total=False):
    """Options of the image processor that a call may change.

    max_tiles: at most this many tiles, not counting the thumbnail.
    """

    max_tiles: int


class HimtokImageProcessor(BaseImageProcessor):
    """Pictures -> normalised tiles, with the functions of `himtok_core.images`.

    Attributes:
        image_size: side S of a tile in pixels.
        max_tiles: at most this many tiles a picture, not counting the thumbnail that follows two or more.
    """

    model_input_names = ["pixel_values"]
    valid_kwargs = HimtokImagesKwargs

    def __init__(self, image_size: int = 448, max_tiles: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.image_size = image_size
        self.max_tiles = max_tiles

    def fetch_images(self, image_url_or_urls: object) -> object:
        """A path, picture or array, or a nested list of them -> RGB PIL images, nested the same way."""
        if isinstance(image_url_or_urls, list | tuple):
            return [self.fetch_images(image) for image in image_url_or_urls]
        return open_picture(image_url_or_urls)

    def preprocess(self, images: object, max_tiles: int | None = None, **kwargs: object) -> BatchFeature:
        """Cut pictures into tiles and normalise them.

        Args:
            images: one picture (path, PIL image, uint8 array H x W x 3) or a list of them, nested or not.
            max_tiles: instead of the processor's own.

        Returns:
            `pixel_values`: float32 tensor (tiles of all pictures, 3, S, S);
            `num_tiles`: list of int, tiles of each picture including its thumbnail.

        Raises:
            PictureError: if one of them is not a usable picture.
        """
        pictures = flatten(self.fetch_images([images]))
        tiles = [tile_picture(picture, self.image_size, max_tiles or self.max_tiles) for picture in pictures]
        pixel_values = torch.cat([torch.from_numpy(normalise(picture_tiles)) for picture_tiles in tiles])
        return BatchFeature({"pixel_values": pixel_values, "num_tiles": [len(t) for t in tiles]})


class HimtokProcessor(ProcessorMixin):
    """Tokenizer, image processor and chat template in one.

    Args:
        image_processor: HimtokImageProcessor; made from `image_size` and `max_tiles` if None.
        tokenizer: a fast tokenizer that knows the chat, picture and mask tokens.
        num_image_tokens: places of one tile in the prompt (`HimtokConfig.image_seq_length`).
        system_message: what the chat template says first if a conversation brings no system message.
        chat_template: Jinja; made from `system_message` if None.
        image_size, max_tiles: see HimtokImageProcessor.

    Calling it with `images` and `text` (one `<IMG_CONTEXT>` in the text for every picture) gives
    `input_ids`, `attention_mask` and `pixel_values`; `apply_chat_template` writes that text from messages.
    """

    return_mm_token_type_ids = False

    def __init__(
        self,
        image_processor: HimtokImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        num_image_tokens: int = 256,
        system_message: str = "",
        chat_template: str | None = None,
        image_size: int = 448,
        max_tiles: int = 4,
    ):
        if image_processor is None:
            image_processor = HimtokImageProcessor(image_size=image_size, max_tiles=max_tiles)
        if chat_template is None:
            quoted = json.dumps(system_message, ensure_ascii=False)
            chat_template = CHAT_TEMPLATE.replace("@system_message@", quoted)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.num_image_tokens = num_image_tokens
        self.system_message = system_message
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)

    @property
    def unused_input_names(self) -> list[str]:
        """What the image processor tells this class but not the model."""
        return ["num_tiles"]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: object) -> str:
        """The text that stands for one picture in the prompt."""
        return self.picture_text(image_inputs["num_tiles"][image_idx])

    def picture_text(self, num_tiles: int) -> str:
        """The text that stands in the prompt for a picture of `num_tiles` tiles (thumbnail included)."""
        return IMAGE_START + IMAGE_TOKEN * (self.num_image_tokens * num_tiles) + IMAGE_END


def flatten(nested: Sequence) -> list:
    """All leaves of nested lists, in order."""
    return [leaf for item in nested for leaf in (flatten(item) if isinstance(item, list) else [item])]


AutoImageProcessor.register(
    HimtokConfig, image_processor_classes={"pil": HimtokImageProcessor, "torchvision": HimtokImageProcessor}
)
AutoProcessor.register(HimtokConfig, HimtokProcessor)
