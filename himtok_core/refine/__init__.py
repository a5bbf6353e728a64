"""SAM sharpens what the de-tokenizer draws: R: (picture, M_in) -> M_out (the supplement, section C)."""

from .configuration import SamConfig
from .modeling import RefinementSam
from .refiner import PictureEmbedding, RefinedMask, SamRefiner, refine_reply

__all__ = ["PictureEmbedding", "RefinedMask", "RefinementSam", "SamConfig", "SamRefiner", "refine_reply"]
