"""The same numbers as the reference implementation, from the picture to the refined map."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from himtok_core.refine import RefinementSam, SamConfig, SamRefiner
from himtok_core.refine.frame import Frame
from himtok_core.refine.prompts import mask_logits, prompts_as_reference, reference_point

PARITY = Path(__file__).parents[1] / "data" / "parity"
PICTURES = ("img_square_120x120", "img_3x2_150x100", "img_1x3_60x180", "img_tiny_20x30")
Check = Callable[[str, torch.Tensor], None]


@pytest.fixture(scope="session")
def check(golden: dict[str, torch.Tensor], tolerances: dict[str, float]) -> Check:
    def compare(name: str, ours: torch.Tensor) -> None:
        torch.testing.assert_close(ours.to(golden[name].dtype), golden[name], rtol=0, atol=tolerances[name])

    return compare


@pytest.fixture(scope="session")
def pictures(reference_sam: RefinementSam) -> torch.Tensor:
    """The four pictures in the tiny SAM's input, uint8 (4, 3, 128, 128)."""
    images = [Image.open(PARITY / "images" / f"{name}.png").convert("RGB") for name in PICTURES]
    return torch.stack([Frame.of(image.size, reference_sam.config).enter(image) for image in images])


@torch.no_grad()
def test_image_encoder(reference_sam: RefinementSam, pictures: torch.Tensor, check: Check) -> None:
    check("samtiny/preprocessed", reference_sam.preprocess(pictures[:1].float()))
    check("samtiny/image_embeddings", reference_sam.embed(pictures))


@pytest.mark.parametrize("kind", ["binary", "soft"])
def test_point_of_the_reference(kind: str, golden: dict[str, torch.Tensor], check: Check) -> None:
    """Among the masks: empty, full, a ring, stripes, one at the border."""
    point = reference_point(golden[f"sam/{kind}/maps"].float(), scale=4)
    check(f"sam/{kind}/centroids", point.centroids)
    check(f"sam/{kind}/perimeter", point.perimeters)
    check(f"sam/{kind}/compactness", point.compactness)
    check(f"sam/{kind}/is_foreground", point.labels)


def test_mask_prompt(golden: dict[str, torch.Tensor], check: Check) -> None:
    check("sam/soft/mask_prompt_logits", mask_logits(golden["sam/soft/maps"])[:, None])


@torch.no_grad()
def test_prompt_encoder(reference_sam: RefinementSam, golden: dict[str, torch.Tensor], check: Check) -> None:
    prompts = prompts_as_reference(golden["samtiny/mask_prompt"][:, 0], scale=4)
    check("samtiny/centroids", prompts.points)
    check("samtiny/is_foreground", prompts.labels)
    for name, labels in (("", prompts.labels), ("_all_foreground", torch.ones_like(prompts.labels))):
        sparse, dense = reference_sam.prompt_encoder(
            points=(prompts.points[:, None], labels[:, None]), boxes=None, masks=prompts.logits[:, None]
        )
        check(f"samtiny/sparse{name}", sparse)
        check("samtiny/dense", dense)
    check("samtiny/dense_pe", reference_sam.prompt_encoder.get_dense_pe())


@torch.no_grad()
def test_mask_decoder(
    reference_sam: RefinementSam, pictures: torch.Tensor, golden: dict[str, torch.Tensor], check: Check
) -> None:
    """Four pictures with a mask each in one batch."""
    maps = golden["samtiny/mask_prompt"][:, 0]
    logits, ious = reference_sam.draw(reference_sam.embed(pictures), prompts_as_reference(maps, scale=4))
    check("samtiny/low_res_logits", logits[:, None])
    check("samtiny/iou", ious)


def test_refiner(reference_sam: RefinementSam, golden: dict[str, torch.Tensor], check: Check) -> None:
    """The facade, from a picture's file to the map, asked as the reference asks."""
    refiner = SamRefiner(reference_sam)
    embedding = refiner.embed(PARITY / "images" / f"{PICTURES[0]}.png")
    refined = refiner.refine(embedding, [golden["samtiny/mask_prompt"][0, 0].numpy()], prompts="reference")
    check("samtiny/decode_mask_sam", torch.from_numpy(refined[0].probability)[None])
    assert refined[0].iou_prediction == pytest.approx(golden["samtiny/iou"][0].item(), abs=1e-4)


def test_every_tensor_of_the_finetuned_vit_l_has_its_place() -> None:
    listed = json.loads((PARITY / "sam" / "manifest_sam_vit_l.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = RefinementSam(SamConfig.reference_vit_l())
    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == listed


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_public_presets_are_the_package_s(size: str) -> None:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        theirs = sam_model_registry[size]().state_dict()
        ours = RefinementSam(getattr(SamConfig, size)()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }


@torch.no_grad()
def test_public_sam_draws_what_the_package_draws(public_refiner: SamRefiner) -> None:
    """Point, box and mask prompt through the package's own forward pass."""
    model = public_refiner.model
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(2, model.config.mask_size, model.config.mask_size, generator=generator)
    picture = torch.randint(0, 256, (3, 90, 128), generator=generator).float()
    prompts = public_refiner.prompts(maps, "mask")
    logits, ious = model.draw(model.embed(picture[None]), prompts)
    theirs = model(
        [
            {
                "image": picture,
                "original_size": (45, 64),
                "point_coords": prompts.points[:, None],
                "point_labels": prompts.labels[:, None],
                "boxes": prompts.boxes,
                "mask_inputs": prompts.logits[:, None],
            }
        ],
        multimask_output=False,
    )[0]
    torch.testing.assert_close(logits, theirs["low_res_logits"][:, 0])
    torch.testing.assert_close(ious, theirs["iou_predictions"][:, 0])
    frame = Frame.of((64, 45), model.config)
    assert torch.equal(frame.leave(logits) > 0, theirs["masks"][:, 0])
