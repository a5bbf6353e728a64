import threading

import pytest
import torch

from himtok_core.errors import GenerationError
from himtok_core.generation.local import Context, Generation, LocalModel
from himtok_core.generation.sampling import Sampling
from himtok_core.generation.turns import first_turn_ids
from tests.conftest import example_picture, tiny_parts


@pytest.fixture(scope="module")
def random_model() -> LocalModel:
    """A model with random weights, loud enough that it does not always say the same."""
    model, processor = tiny_parts(seed=3)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
        model.get_input_embeddings().weight.mul_(20)
    return LocalModel(model, processor)


@pytest.fixture(scope="module")
def prompt(random_model) -> tuple[list[int], torch.Tensor]:
    seen = random_model.processor.image_processor(example_picture())
    ids = first_turn_ids(random_model.processor, "Segment <ref>cat</ref>.", seen["num_tiles"][0])
    return ids, random_model.look(seen["pixel_values"])


def generate(local, prompt, *, context=None, mask_tokens=None, seed=None, limit=40, stop=None) -> Generation:
    sampling = None if seed is None else Sampling(temperature=1.5, seed=seed)
    generation = Generation(
        local, context or Context(), *prompt, mask_tokens, sampling, limit, stop or threading.Event()
    )
    assert list(generation) == generation.ids
    return generation


def test_prefill_is_what_the_model_computes_itself(random_model, prompt):
    ids, features = prompt
    hidden, known = random_model.read(Context(), ids, features)
    pixel_values = random_model.processor.image_processor(example_picture())["pixel_values"]
    with torch.no_grad():
        logits = random_model.model(input_ids=torch.tensor([ids]), pixel_values=pixel_values).logits[0, -1]
    assert known == 0
    allowed = random_model.text_logits(hidden) > -torch.inf
    assert torch.allclose(random_model.text_logits(hidden)[allowed], logits[allowed], atol=1e-4)


@pytest.mark.parametrize("split", [1, 10, 20, 30])
def test_reading_in_pieces_is_reading_at_once(random_model, prompt, split):
    ids, features = prompt
    whole, _ = random_model.read(Context(), ids, features)
    context = Context()
    random_model.read(context, ids[:split], features)  # 10 and 20 lie inside the picture
    pieced, known = random_model.read(context, ids, features)
    assert known == split
    assert torch.allclose(whole, pieced, atol=1e-4)
    again, known = random_model.read(context, ids, features)
    assert known == len(ids) - 1
    assert torch.allclose(whole, again, atol=1e-4)


def test_another_end_is_read_behind_the_common_beginning(random_model, prompt):
    ids, features = prompt
    context = Context()
    random_model.read(context, [*ids, 50, 51, 52], features)
    hidden, known = random_model.read(context, [*ids, 50, 60], features)
    assert known == len(ids) + 1
    assert context.ids == [*ids, 50, 60]
    assert torch.allclose(hidden, random_model.read(Context(), [*ids, 50, 60], features)[0], atol=1e-4)


def test_mask_logits_are_a_part_of_all_logits(random_model, prompt):
    hidden, _ = random_model.read(Context(), *prompt)
    ids = random_model.mask_ids
    with torch.no_grad():
        logits = random_model.model.lm_head(hidden)
    expected = torch.cat([logits[ids.first : ids.first + 1024], logits[ids.end][None]])
    assert torch.allclose(random_model.mask_logits(hidden), expected, atol=1e-4)


def runs_of(generation: Generation, local: LocalModel) -> list[list[int]]:
    """The runs as the ids have them, checked: nothing else inside, nothing of them outside."""
    runs, open_run = [], None
    for token in generation.ids:
        if open_run is None:
            assert token not in local.mask_ids and token != local.mask_ids.end
            if token == local.mask_ids.start:
                open_run = []
                runs.append(open_run)
        elif token == local.mask_ids.end:
            open_run = None
        else:
            assert token in local.mask_ids
            open_run.append(token - local.mask_ids.first)
    return runs


@pytest.fixture(scope="module")
def fond_of_masks(random_model) -> LocalModel:
    """The random model, with a liking for the start and the end of runs."""
    model, processor = tiny_parts(seed=4)
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
        rows = model.lm_head.weight
        direction = torch.randn(64)
        model.model.language_model.norm.weight.fill_(1.0)
        rows[model.config.mask_start_id] = direction
        rows[model.config.mask_end_id] = -direction
    return LocalModel(model, processor)


@pytest.mark.parametrize("mask_tokens", [1, 5, 32])
def test_runs_have_exactly_the_wanted_length(fond_of_masks, prompt, mask_tokens):
    found = 0
    for seed in range(3):
        generation = generate(fond_of_masks, prompt, mask_tokens=mask_tokens, seed=seed, limit=120)
        runs = runs_of(generation, fond_of_masks)
        assert runs == [run.tokens for run in generation.runs]
        closed = [run for run in generation.runs if run.closed]
        assert all(len(run.tokens) == mask_tokens for run in closed)
        found += len(closed)
    assert found > 0


def test_a_run_that_the_model_ends_has_1_to_32_tokens(fond_of_masks, prompt):
    lengths = set()
    for seed in range(4):
        generation = generate(fond_of_masks, prompt, seed=seed, limit=120)
        runs_of(generation, fond_of_masks)
        lengths |= {len(run.tokens) for run in generation.runs if run.closed}
    assert len(lengths) > 1 and lengths <= set(range(1, 33))


def test_every_mask_token_comes_with_its_distribution(fond_of_masks, prompt):
    generation = generate(fond_of_masks, prompt, mask_tokens=4, seed=0, limit=120)
    run = next(run for run in generation.runs if run.closed)
    assert len(run.probabilities) == 4
    # Recompute them from one pass over everything: softmax of twice the logits, over the mask ids alone.
    ids, features = prompt
    at = generation.ids.index(fond_of_masks.mask_ids.start)
    for index in range(4):
        hidden, _ = fond_of_masks.read(Context(), [*ids, *generation.ids[: at + 1 + index]], features)
        logits = fond_of_masks.model.lm_head(hidden)[fond_of_masks.mask_ids.first :][:1024]
        assert torch.allclose(run.probabilities[index], (2 * logits).softmax(0), atol=1e-4)


def test_places_of_pictures_never_come_out(fond_of_masks, prompt):
    with torch.no_grad():
        fond_of_masks.model.lm_head.weight[fond_of_masks.model.config.image_token_id] = 100.0
    for seed in range(3):
        generation = generate(fond_of_masks, prompt, seed=seed)
        assert fond_of_masks.model.config.image_token_id not in generation.ids


def test_the_cache_gives_what_reading_anew_gives(random_model, prompt):
    context = Context()
    cached = generate(random_model, prompt, context=context, limit=20)
    ids, features = prompt
    anew = list(ids)
    for token in cached.ids:
        hidden, _ = random_model.read(Context(), anew, features)
        assert int(random_model.text_logits(hidden).argmax()) == token
        anew.append(token)
    assert context.ids == anew[:-1]  # the last token was chosen, but not read


def test_it_says_why_it_ended(random_model, prompt):
    assert generate(random_model, prompt, limit=3).ended == "length"
    stopped = threading.Event()
    stopped.set()
    generation = generate(random_model, prompt, stop=stopped)
    assert generation.ended == "stopped" and generation.ids == []


def test_a_full_context_ends_the_answer_and_refuses_the_next(random_model, prompt):
    ids, features = prompt
    room = random_model.limit - len(ids)
    long = [*ids, *[50] * (room - 3)]
    generation = generate(random_model, (long, features))
    assert generation.ended == "context" and len(generation.ids) == 3
    with pytest.raises(GenerationError, match=f"{random_model.limit}"):
        random_model.read(Context(), [*long, 50, 50, 50], features)


def out_of_memory(error):
    def forward(*args, **kwargs):
        raise error

    return forward


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of"
        ),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 2.50 GiB. Error code 12"
        ),
    ],
)
def test_out_of_memory_says_what_helps_and_spoils_nothing(random_model, prompt, monkeypatch, error):
    ids, features = prompt
    context = Context()
    random_model.read(context, ids[:20], features)
    # The second layer fails: the first one has already added to the cache.
    layer = random_model.model.model.language_model.layers[1]
    monkeypatch.setattr(layer, "forward", out_of_memory(error))
    with pytest.raises(GenerationError, match=r"2\.50 GiB.*--max-tiles.*--quantization"):
        random_model.read(context, ids, features)
    monkeypatch.undo()
    hidden, known = random_model.read(context, ids, features)
    assert known == 0
    assert torch.allclose(hidden, random_model.read(Context(), ids, features)[0], atol=1e-4)


def test_other_failures_are_not_called_out_of_memory(random_model, prompt, monkeypatch):
    layer = random_model.model.model.language_model.layers[1]
    monkeypatch.setattr(layer, "forward", out_of_memory(RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes"):
        random_model.read(Context(), *prompt)
