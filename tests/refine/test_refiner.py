"""SamRefiner as others see it: shapes, batches, threads, replies, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from himtok_core.errors import HimtokError, MaskError, PictureError
from himtok_core.refine import SamRefiner, refine_reply
from himtok_core.reply import Reply, ReplyObject


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob(x: float, y: float, radius: float, side: int = 64) -> np.ndarray:
    """A soft disc, float32 [side, side] in 0..1; x, y and radius as parts of the side."""
    rows, columns = np.mgrid[:side, :side] / side
    distance = np.hypot(columns - x, rows - y)
    return (1 / (1 + np.exp(40 * (distance - radius)))).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 64), (300, 40), (7, 90), (1, 1)])
def test_masks_come_back_at_the_picture_s_size(public_refiner: SamRefiner, size: tuple[int, int]) -> None:
    embedding = public_refiner.embed(picture(*size))
    for refined in public_refiner.refine(embedding, [blob(0.5, 0.5, 0.3), blob(0.3, 0.6, 0.2, side=33)]):
        assert refined.mask.shape == (size[1], size[0]) and refined.mask.dtype == bool
        assert refined.probability.shape == (256, 256) and refined.probability.dtype == np.float32
        assert 0 <= refined.probability.min() <= refined.probability.max() <= 1
        assert isinstance(refined.iou_prediction, float)


def test_mask_and_probability_tell_the_same(public_refiner: SamRefiner) -> None:
    embedding = public_refiner.embed(picture(256, 256))
    refined = public_refiner.refine(embedding, [blob(0.4, 0.5, 0.3)])[0]
    assert 0.01 < refined.mask.mean() < 0.99  # neither empty nor full, so that there is something to agree on
    assert (refined.mask == (refined.probability > 0.5)).mean() > 0.98


def test_a_batch_is_what_its_masks_are_alone(public_refiner: SamRefiner) -> None:
    """More masks than go through the decoder together, an empty one among them."""
    embedding = public_refiner.embed(picture(90, 60))
    generator = np.random.default_rng(0)
    maps = [blob(*generator.uniform(0.2, 0.8, 2), generator.uniform(0.1, 0.3)) for _ in range(40)]
    maps[7] = np.zeros((64, 64), np.float32)
    together = public_refiner.refine(embedding, maps)
    for index in (0, 6, 8, 39):
        alone = public_refiner.refine(embedding, [maps[index]])[0]
        np.testing.assert_allclose(together[index].probability, alone.probability, atol=1e-4)
    assert not together[7].mask.any()


def test_an_empty_mask_stays_empty(public_refiner: SamRefiner) -> None:
    embedding = public_refiner.embed(picture(50, 40))
    for prompts in ("mask", "reference"):
        refined = public_refiner.refine(embedding, [np.full((64, 64), 0.4, np.float32)], prompts)[0]
        assert not refined.mask.any() and refined.iou_prediction == 0 and not refined.probability.any()
    assert public_refiner.refine(embedding, []) == []


def test_bool_masks_at_the_picture_s_size_are_taken(public_refiner: SamRefiner) -> None:
    embedding = public_refiner.embed(picture(80, 48))
    mask = np.zeros((48, 80), bool)
    mask[10:30, 20:60] = True
    by_bool, by_float = public_refiner.refine(embedding, [mask, mask.astype(np.float64)])
    assert np.array_equal(by_bool.mask, by_float.mask)


def test_threads_share_a_refiner(public_refiner: SamRefiner) -> None:
    """Each picture's masks are its own, whoever else asks at the moment."""
    pictures = [picture(60 + 10 * seed, 70, seed) for seed in range(6)]

    def refine(image: np.ndarray) -> np.ndarray:
        return public_refiner.refine(public_refiner.embed(image), [blob(0.5, 0.5, 0.3)])[0].probability

    alone = [refine(image) for image in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(refine, pictures * 2))
    for index, probability in enumerate(together):
        np.testing.assert_allclose(probability, alone[index % 6], atol=1e-4)


def test_nothing_is_left_to_train(public_refiner: SamRefiner) -> None:
    assert not public_refiner.embed(picture(30, 30)).features.requires_grad


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 8, 8), np.float32), "two-dimensional"),
        (np.zeros((0, 8), np.float32), "two-dimensional"),
        (np.full((8, 8), 255, np.uint8), "bool or float"),
        (np.full((8, 8), 2.0), "lies in 0..1"),
        (np.full((8, 8), np.nan), "lies in 0..1"),
    ],
)
def test_maps_that_are_none(public_refiner: SamRefiner, bad: np.ndarray, words: str) -> None:
    embedding = public_refiner.embed(picture(30, 30))
    with pytest.raises(MaskError, match=words):
        public_refiner.refine(embedding, [bad])


def test_unknown_prompts_and_pictures(public_refiner: SamRefiner) -> None:
    with pytest.raises(HimtokError, match='"mask" or "reference"'):
        public_refiner.refine(public_refiner.embed(picture(30, 30)), [blob(0.5, 0.5, 0.3)], "points")
    with pytest.raises(PictureError):
        public_refiner.embed("/nowhere/picture.png")


def reply_of(maps: list[np.ndarray | None], size: tuple[int, int]) -> Reply:
    nothing = np.zeros((size[1], size[0]), bool)
    objects = tuple(
        ReplyObject("it", (0, 0, 5, 5), None if map is None else nothing, map, (1, 2)) for map in maps
    )
    return Reply("the text", objects, size)


def test_a_reply_changes_its_masks_only(public_refiner: SamRefiner) -> None:
    image, maps = picture(60, 40), [blob(0.5, 0.5, 0.3), None, blob(0.3, 0.3, 0.2)]
    reply = reply_of(maps, (60, 40))
    refined = refine_reply(public_refiner, image, reply)
    embedding = public_refiner.embed(image)
    wanted = public_refiner.refine(embedding, [maps[0], maps[2]])
    assert np.array_equal(refined.objects[0].mask, wanted[0].mask)
    assert np.array_equal(refined.objects[2].mask, wanted[1].mask)
    assert refined.objects[1] is reply.objects[1]
    assert refined.text == reply.text and refined.objects[0].tokens == (1, 2)
    assert refined.objects[0].probability is maps[0] and refined.objects[0].box == (0, 0, 5, 5)
    again = refine_reply(public_refiner, embedding, reply)
    assert np.array_equal(again.objects[0].mask, refined.objects[0].mask)


def test_a_mask_of_which_nothing_would_be_left_stays(
    public_refiner: SamRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = public_refiner.model.draw

    def nothing(*asked: object) -> tuple:
        logits, ious = draw(*asked)
        return -logits.abs() - 1, ious

    monkeypatch.setattr(public_refiner.model, "draw", nothing)
    reply = reply_of([blob(0.5, 0.5, 0.3)], (60, 40))
    refined = refine_reply(public_refiner, picture(60, 40), reply)
    assert refined.objects[0].mask is reply.objects[0].mask


def test_a_reply_without_masks_does_not_ask_sam(public_refiner: SamRefiner) -> None:
    reply = reply_of([None], (60, 40))
    assert refine_reply(public_refiner, "/nowhere/picture.png", reply) is reply


def test_a_reply_about_another_picture(public_refiner: SamRefiner) -> None:
    with pytest.raises(MaskError, match="60, 40"):
        refine_reply(public_refiner, picture(61, 40), reply_of([blob(0.5, 0.5, 0.3)], (60, 40)))


def test_a_mask_without_its_map_is_refined_from_itself(public_refiner: SamRefiner) -> None:
    image = picture(60, 40)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:40] = True
    reply = reply_of([blob(0.5, 0.5, 0.3)], (60, 40))
    reply = replace(reply, objects=(replace(reply.objects[0], mask=mask, probability=None),))
    wanted = public_refiner.refine(public_refiner.embed(image), [mask])[0].mask
    assert np.array_equal(refine_reply(public_refiner, image, reply).objects[0].mask, wanted)


def test_a_model_on_another_device_is_where_it_was_put() -> None:
    with pytest.raises(HimtokError, match="no device"):
        SamRefiner.from_pretrained("/nowhere", device="nonsense")
    if not torch.cuda.is_available():
        with pytest.raises(HimtokError, match="no cuda device"):
            SamRefiner.from_pretrained("/nowhere", device="cuda")
