"""Speed and memory of the model at its full size, with random weights, as one JSON line.

The weights are made on the device from the sizes alone, so nothing is downloaded; what they say means
nothing, how long it takes does. The limit that decoding is compared with is measured in the same run: every
token reads every weight of the language model once, and so many bytes a second the device can copy.

    python benchmarks/decode.py                   # the 8B model in bfloat16; needs a GPU with about 24 GB
    python benchmarks/decode.py --preset small    # a small one in float32, for a processor
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mini import processor_name
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout without installing
if TYPE_CHECKING:
    import himtok_core as himtok

QUESTION, AGAIN = "Segment <ref>red apple</ref>.", "And the one to its left?"
SYSTEM_MESSAGE = "You see a picture and answer with words, boxes and masks."
SPECIAL = ["<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>"]
SPECIAL += ["<ref>", "</ref>", "<box>", "</box>", "<|mt_start|>", "<|mt_end|>"]
MASKS = [f"<|mt_{number}|>" for number in range(1024)]
WORDS = {"8b": 92542, "small": 8000}  # tokens of the vocabulary before the special ones
SMALL = {
    "text_config": {
        "vocab_size": WORDS["small"] + len(SPECIAL) + len(MASKS), "hidden_size": 512,
        "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
        "num_key_value_heads": 2, "max_position_embeddings": 8192, "tie_word_embeddings": False,
    },
    "vision_config": {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": 224, "patch_size": 14, "attention_bias": True,
    },
    "mask_tokenizer_config": {
        "mask_size": 128, "patch_size": 8, "encoder_width": 256, "encoder_layers": 4, "encoder_heads": 4,
        "decoder_width": 256, "decoder_layers": 4, "decoder_heads": 4, "ffn_hidden_channels": 256,
        "ffn_out_channels": 128, "pixel_hidden_channels": 16, "pixel_channel_mult": (1, 1, 2, 4),
        "group_norm_groups": 8,
    },
}  # fmt: skip


def build(preset: str, device: str, dtype: torch.dtype) -> "himtok.Chat":
    """A model of the preset's sizes with random weights, seeded, and a processor with made-up words.

    Its answers never end by themselves and hold no special tokens: the rows of the output head that would
    say them are zero.
    """
    import himtok_core as himtok

    words = WORDS[preset]
    config = himtok.HimtokConfig(
        **SMALL if preset == "small" else {},
        image_token_id=words + SPECIAL.index("<IMG_CONTEXT>"),
        mask_start_id=words + SPECIAL.index("<|mt_start|>"),
        mask_end_id=words + SPECIAL.index("<|mt_end|>"),
        first_mask_id=words + len(SPECIAL),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    with torch.no_grad():
        model.lm_head.weight[words:] = 0

    spelled = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled += [f"Ġword{number}" for number in range(words - len(spelled))]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(spelled)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL + MASKS])
    processor = himtok.HimtokProcessor(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=SPECIAL[0]),
        num_image_tokens=config.image_seq_length,
        system_message=SYSTEM_MESSAGE,
        image_size=config.image_size,
        max_tiles=6,
    )
    return himtok.Chat(model, processor, name=preset)


def pictures(side: int) -> dict[str, Image.Image]:
    """Noise that is cut into 1 tile, and into 6 tiles and a thumbnail."""
    draw = np.random.default_rng(0)
    shapes = {"1_tile": (side, side, 3), "7_tiles": (2 * side, 3 * side, 3)}
    return {name: Image.fromarray(draw.integers(0, 256, s, dtype=np.uint8)) for name, s in shapes.items()}


def seconds(work: Callable[[], object], runs: int, device: torch.device) -> float:
    """Median time of some work, after it has been done once."""
    work()
    times = []
    for _ in range(runs):
        wait(device)
        begin = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second that the device reads and writes while it copies a large piece of memory."""
    numbers = torch.ones(2**29 if device.type == "cuda" else 2**25, device=device)  # 2 GiB or 128 MiB
    target = torch.empty_like(numbers)
    return 2 * numbers.nbytes / seconds(lambda: target.copy_(numbers), 10, device)


def bytes_per_token(chat: "himtok.Chat") -> int:
    """Bytes of the weights that a token of text needs; one row of the embeddings counts as nothing."""
    language_model = chat.model.model.language_model
    read = sum(weight.nbytes for weight in language_model.parameters())
    return read - language_model.embed_tokens.weight.nbytes + chat.model.lm_head.weight.nbytes


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU what tensors took at most, else the largest resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def conversation(chat: "himtok.Chat", picture: Image.Image, tokens: int, runs: int) -> dict[str, float]:
    """Two turns about a picture: milliseconds to the first token of each, tokens a second of the first."""
    turns = []
    for run in range(runs + 1):
        talk = chat.start(picture)
        first = talk.ask(QUESTION, max_new_tokens=tokens).timing
        second = talk.ask(AGAIN, max_new_tokens=8).timing
        assert first.new_tokens == tokens and second.cached_tokens > first.prompt_tokens
        if run:  # the first one prepares what the others use again
            turns.append((first, second))
    return {
        "first_token_ms_turn_1": 1000 * statistics.median(first.first_token for first, _ in turns),
        "first_token_ms_turn_2": 1000 * statistics.median(second.first_token for _, second in turns),
        "tokens_per_second": statistics.median((tokens - 1) / first.decode for first, _ in turns),
    }


def plain_generate(chat: "himtok.Chat", picture: Image.Image, tokens: int, runs: int) -> float:
    """Tokens a second of transformers' own `generate` on the same weights, behind the same prompt."""
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = chat.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = chat.processor(images=[picture], text=text, return_tensors="pt").to(chat.model.device)
    inputs["pixel_values"] = inputs["pixel_values"].to(chat.model.dtype)

    def generate(count: int) -> float:
        options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
        return seconds(lambda: chat.model.generate(**inputs, **options), runs, chat.model.device)

    return (tokens - 1) / (generate(tokens) - generate(1))


def detokenize(chat: "himtok.Chat", runs: int) -> dict[str, float]:
    """Milliseconds until one mask, and those of all 32 prefixes in one batch, lie on the processor."""
    tokens = torch.arange(32)[None]
    one = seconds(lambda: chat.mask_tokenizer.decode(tokens).cpu(), runs, chat.model.device)
    lengths = list(range(1, 33))
    all_prefixes = seconds(
        lambda: chat.mask_tokenizer.decode_prefixes(tokens, lengths).cpu(), runs, chat.model.device
    )
    return {"detokenize_ms_1_mask": 1000 * one, "detokenize_ms_32_prefixes": 1000 * all_prefixes}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the model with random weights; prints one JSON line.")
    parser.add_argument("--preset", choices=list(WORDS), default="8b", help="sizes (%(default)s)")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s"
    )
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the median of (%(default)s)")
    arguments = parser.parse_args()

    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    bandwidth = copy_bandwidth(device)
    say(f"{bandwidth / 1e9:.0f} GB/s while copying; building {arguments.preset}")
    chat = build(arguments.preset, arguments.device, dtype)
    limit = bandwidth / bytes_per_token(chat)
    line: dict[str, object] = {}
    for name, picture in pictures(chat.model.config.image_size).items():
        say(f"asking about {name}")
        measured = conversation(chat, picture, arguments.tokens, arguments.runs)
        line |= {f"{what}_{name}": value for what, value in measured.items()}
        line[f"share_of_limit_{name}"] = measured["tokens_per_second"] / limit
    line |= detokenize(chat, arguments.runs)
    line["peak_memory_gb"] = peak_memory(device) / 1e9
    for name, picture in pictures(chat.model.config.image_size).items():
        say(f"the same through generate, {name}")
        plain = plain_generate(chat, picture, arguments.tokens, arguments.runs)
        line[f"plain_tokens_per_second_{name}"] = plain
        line[f"times_plain_{name}"] = line[f"tokens_per_second_{name}"] / plain
    line |= {
        "limit_tokens_per_second": limit,
        "copy_gb_per_second": bandwidth / 1e9,
        "gb_per_token": bytes_per_token(chat) / 1e9,
        "weights_gb": sum(weight.nbytes for weight in chat.model.parameters()) / 1e9,
    }
    line = {name: float(f"{value:.4g}") for name, value in line.items()}
    line |= {
        "preset": arguments.preset,
        "dtype": str(dtype).removeprefix("torch."),
        "machine": machine(device),
    }
    print(json.dumps(line))


def machine(device: torch.device) -> dict[str, str | int]:
    """What the numbers depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
