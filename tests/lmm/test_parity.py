"""The tiny checkpoint in the released format against what the reference implementation computed on it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from himtok_core.lmm import HimtokForConditionalGeneration, HimtokProcessor, load_released

PARITY = Path(__file__).parents[1] / "data" / "parity"
FACTS = json.loads((PARITY / "lmm.json").read_text(encoding="utf-8"))
PROMPTS = FACTS["prompts"]

Loaded = tuple[HimtokForConditionalGeneration, HimtokProcessor]


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(PARITY / "lmm.safetensors")


@pytest.fixture(scope="module")
def released() -> Loaded:
    return load_released(PARITY / "released_tiny")


def assert_golden(actual: torch.Tensor, golden: dict[str, torch.Tensor], name: str) -> None:
    torch.testing.assert_close(actual, golden[name], rtol=0, atol=FACTS["tolerances"][name])


def messages(prompt: dict) -> list[dict]:
    """A prompt of the parity data as chat messages; the picture goes into the first question."""
    said = []
    for question, answer in prompt.get("history") or []:
        said += [{"role": "user", "content": question.removeprefix("<image>\n")}]
        said += [{"role": "assistant", "content": answer}]
    said.append({"role": "user", "content": prompt["question"]})
    if prompt["image"]:
        picture = {"type": "image", "image": str(PARITY / prompt["image"])}
        said[0]["content"] = [picture, {"type": "text", "text": said[0]["content"]}]
    return said


def inputs(processor: HimtokProcessor, prompt: dict) -> dict[str, torch.Tensor]:
    return processor.apply_chat_template(
        messages(prompt),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"max_tiles": prompt["max_num"] or 1},
    )


@pytest.mark.parametrize("case", FACTS["tokenisation"], ids=lambda case: repr(case["text"][:20]))
def test_ids_of_texts(released: Loaded, case: dict) -> None:
    tokenizer = released[1].tokenizer
    assert tokenizer(case["text"])["input_ids"] == case["ids"]


def test_ids_survive_saving(released: Loaded, tmp_path: Path) -> None:
    released[1].save_pretrained(tmp_path)
    tokenizer = HimtokProcessor.from_pretrained(tmp_path).tokenizer
    assert [tokenizer(case["text"])["input_ids"] for case in FACTS["tokenisation"]] == [
        case["ids"] for case in FACTS["tokenisation"]
    ]


def test_special_ids_and_padding(released: Loaded) -> None:
    tokenizer, special = released[1].tokenizer, FACTS["special"]
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in special} == special
    batch = FACTS["left_padded_batch"]
    padded = tokenizer(batch["texts"], padding=True)
    assert padded["input_ids"] == batch["input_ids"]
    assert padded["attention_mask"] == batch["attention_mask"]


def test_decoding_gives_the_text_back(released: Loaded) -> None:
    tokenizer = released[1].tokenizer
    text = "Segment  <ref>naïve 猫 😀</ref> .\n<|mt_start|><|mt_5|><|mt_1023|><|mt_end|> don't"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt(released: Loaded, golden: dict, name: str) -> None:
    prompt = PROMPTS[name]
    encoded = inputs(released[1], prompt)
    assert encoded["input_ids"].tolist() == golden[f"prompt/{name}/input_ids"].tolist()
    if prompt["image"]:
        assert len(encoded["pixel_values"]) == prompt["num_tiles"]
    else:
        assert "pixel_values" not in encoded


@pytest.mark.parametrize("image, max_tiles", [("img_square_120x120", 1), ("img_3x2_150x100", 6)])
def test_vision_features(released: Loaded, golden: dict, image: str, max_tiles: int) -> None:
    model, processor = released
    tiles = processor.image_processor(PARITY / "images" / f"{image}.png", max_tiles=max_tiles)["pixel_values"]
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=tiles)
    assert_golden(seen.last_hidden_state, golden, f"vision/{image}/max{max_tiles}/last_hidden_state")
    assert_golden(seen.pooler_output, golden, f"vision/{image}/max{max_tiles}/features")


@pytest.mark.parametrize("name", PROMPTS)
def test_prefill_logits(released: Loaded, golden: dict, name: str) -> None:
    model, processor = released
    with torch.no_grad():
        logits = model(**inputs(processor, PROMPTS[name])).logits[0]
    assert_golden(logits[-len(golden[f"prefill/{name}/logits"]) :], golden, f"prefill/{name}/logits")


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_continuation(released: Loaded, golden: dict, name: str) -> None:
    model, processor = released
    encoded = inputs(processor, PROMPTS[name])
    generated = model.generate(**encoded, max_new_tokens=64, do_sample=False)
    assert (
        generated[0, encoded["input_ids"].shape[1] :].tolist() == golden[f"generate/{name}/ids_64"].tolist()
    )


def test_padded_batch_from_pictures_to_masks(released: Loaded, golden: dict) -> None:
    """Five requests in one left-padded batch; the first two answers hold complete mask runs."""
    model, processor = released
    encoded = [inputs(processor, item | {"history": None}) for item in FACTS["e2e"]]
    batch = processor.tokenizer.pad(
        {"input_ids": [one["input_ids"][0] for one in encoded]}, return_tensors="pt"
    )
    assert batch["input_ids"].tolist() == golden["e2e/input_ids"].tolist()
    generated = model.generate(
        **batch,
        pixel_values=torch.cat([one["pixel_values"] for one in encoded]),
        max_new_tokens=100,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new_ids = generated.sequences[:, batch["input_ids"].shape[1] :]
    assert new_ids.tolist() == golden["e2e/full/sequences"].tolist()

    config, logits = model.config, torch.stack(generated.logits, dim=1)  # (B, new tokens, vocabulary)
    for row in range(2):
        start = new_ids[row].tolist().index(config.mask_start_id) + 1
        run = logits[row, start : start + 32, config.first_mask_id : config.last_mask_id + 1]
        probabilities = (2 * run).softmax(-1)
        torch.testing.assert_close(
            probabilities, golden["e2e/mask_probs"][row], rtol=0, atol=FACTS["tolerances"]["e2e/mask_probs"]
        )
        mask = model.mask_tokenizer.decode_soft(probabilities[None])[0]
        torch.testing.assert_close(
            mask, golden["e2e/full/masks"][row], rtol=0, atol=FACTS["tolerances"]["e2e/full/masks"]
        )


def test_masks_to_tokens(released: Loaded, golden: dict) -> None:
    tokens = released[0].mask_tokenizer.encode(golden["himt/masks"].float())
    assert tokens.tolist() == golden["himt/token_ids"].tolist()


@pytest.mark.parametrize("length", [1, 2, 4, 8, 16, 31, 32])
def test_tokens_to_masks_at_every_length(released: Loaded, golden: dict, length: int) -> None:
    tokenizer = released[0].mask_tokenizer
    hard = tokenizer.decode(golden["himt/token_ids"][:2, :length])
    assert_golden(hard, golden, f"himt/decode_hard/prefix_{length}/prob")
    soft = tokenizer.decode_soft(golden["soft/tt_probs"][:, :length])
    assert_golden(soft, golden, f"soft/prefix_{length}/prob")


def test_what_training_learns_to_say(released: Loaded, golden: dict) -> None:
    """The template's `generation` block marks the same ids as the reference's labels."""
    processor, sample = released[1], FACTS["train_sample"]
    question, answer = (turn["value"] for turn in sample["conversations"])
    said = messages({"question": question.removeprefix("<image>\n"), "image": sample["image"]})
    said.append({"role": "assistant", "content": answer})
    encoded = processor.apply_chat_template(
        said,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"max_tiles": sample["max_num"]},
    )
    assert encoded["input_ids"].tolist() == golden["train/sample/input_ids"].tolist()
    labels = golden["train/sample/labels"]
    assert encoded["assistant_masks"].tolist() == (labels != -100).long().tolist()
