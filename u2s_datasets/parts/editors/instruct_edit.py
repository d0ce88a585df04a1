"""Instruction editors: any pipeline of diffusers that changes a picture as a sentence tells it to.

The pipelines are diffusers' own; `instruct_families` says how each of them is called.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import EditFailed, SetupError
from u2s_datasets.parts import Edit, checkpoints, checks
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, Once, generators, warn_of_long
from u2s_datasets.parts.editors.instruct_families import Family, Size, canvas_for, family_of
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class InstructEdit(DiffusionEditor):
    """Edit by `Edit.instruction`: InstructPix2Pix (the paper's with MagicBrush's weights), FLUX Kontext, FLUX.2,
    Qwen-Image-Edit, LongCat-Image-Edit or JoyImage-Edit, told by the checkpoint's model_index.json.

    The default weights are InstructPix2Pix's own, since of MagicBrush's in diffusers' layout no commit is pinned
    anywhere: name them with `model`. Licences are listed in `weights`. Each further attempt (`Edit.strength`) lowers
    image guidance by 0.2, down to 1, and where a family has none raises text guidance by a quarter; both loosen the
    hold of the original. A checkpoint whose guidance is built in tries another seed alone.

    Pictures of Qwen, LongCat and JoyImage always go through their model at about 1024 x 1024 pixels, as the
    pipelines want it: scaled alike in both directions, padded, and brought back. The others keep their size, down
    from `max_pixels`.

    Args:
        model: a Hub id, or a folder in diffusers' layout.
        num_inference_steps, guidance_scale, image_guidance_scale: None takes the family's own. InstructPix2Pix's
            are above 1 and at least 1: below there would be no guidance at all.
        negative_prompt: what the picture is not to show, where the family takes such a text.

    Raises:
        SetupError: also for a checkpoint of another pipeline, or an argument that its family has not.

    Source: Brooks et al., InstructPix2Pix (CVPR 2023); Zhang et al., MagicBrush (NeurIPS 2023).
    """

    model: str = "timbrooks/instruct-pix2pix"
    revision: str | None = WEIGHTS["timbrooks/instruct-pix2pix"].revision
    dtype: str = "bfloat16"
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    negative_prompt: str = ""

    needs: ClassVar[tuple[str, ...]] = ("instruction",)

    def check(self) -> None:
        """As every diffusion editor's, and that the checkpoint's family takes these arguments."""
        super().check()
        name, family = self._family()
        lacks = {
            "guidance_scale": self.guidance_scale is not None and family.guidance is None,
            "image_guidance_scale": self.image_guidance_scale is not None and family.image_guidance_scale is None,
            "negative_prompt": bool(self.negative_prompt) and family.negative is None,
        }
        for argument in [argument for argument, lacking in lacks.items() if lacking]:
            raise SetupError(f"{argument}={getattr(self, argument)!r}: {name} of this checkpoint takes none; leave it")
        if family.image_guidance_scale is not None and self.guidance_scale is not None:
            checks.check_float("guidance_scale", self.guidance_scale, 1, above=True)

    def check_values(self) -> None:
        """As every diffusion editor's."""
        super().check_values()
        if self.num_inference_steps is not None:
            checks.check_int("num_inference_steps", self.num_inference_steps)
        if self.guidance_scale is not None:
            checks.check_float("guidance_scale", self.guidance_scale)
        if self.image_guidance_scale is not None:
            checks.check_float("image_guidance_scale", self.image_guidance_scale, 1)

    def _family(self) -> tuple[str, Family]:
        folder = checkpoints.folder(self.model, self.revision)
        index = checkpoints.pipeline_index(self.model, self.revision)
        if not any(folder.glob("*/*.safetensors")):
            raise checkpoints.missing(self.model, self.revision, "has no safetensors")
        return family_of(index)

    def pipeline(self, folder: str, **options: Any) -> Any:
        """The pipeline of the class that the checkpoint names."""
        import diffusers

        return getattr(diffusers, self._family()[0]).from_pretrained(folder, **options)

    def around(self, pipeline: Any) -> _Loaded:
        """The pipeline with its family and what remembers texts."""
        _, family = family_of({**pipeline.config, "_class_name": type(pipeline).__name__})
        texts = None if family.encode is None else Once(functools.partial(_encoded, family, pipeline))
        return _Loaded(pipeline, family, texts)

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """As every diffusion editor's, with the family's own sizes."""
        family = self.loaded.family
        limit = min(self.max_pixels or family.pixels, family.pixels if family.bounded else 2**63)
        batch_size = 1 if checkpoints.device(self.device) == "cpu" else self.batch_size
        return batches.edit(edits, self.run, family.multiple, limit, batch_size, self.region, self.needs)

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited pictures, in one pass where the pipeline takes several, else one by one."""
        import torch

        alike = len({order.edit.strength for order in batch}) == 1
        together = self.loaded.family.batched and alike
        passes = [batch] if together else [[order] for order in batch]
        return torch.cat([self._pass(orders) for orders in passes])

    def _pass(self, batch: Sequence[Prepared]) -> torch.Tensor:
        pipeline, family = self.loaded.pipeline, self.loaded.family
        size = batch[0].image.size
        canvas = size if family.canvas is None else canvas_for(family, pipeline, size)
        pictures = [fitted(order.image, canvas) for order in batch]
        arguments = self._texts(batch) | self._numbers(batch[0].edit.strength) | family.sized(canvas)
        sources = generators(batch)
        arguments["image"] = pictures if family.batched or family.listed else pictures[0]
        arguments["generator"] = sources if family.batched else sources[0]
        with _noise(family, batch[0].edit.seed):
            answer = pipeline(**arguments, output_type="pt")
        output = answer.images
        if output.shape[-2:] != (canvas[1], canvas[0]):
            raise EditFailed(f"{type(pipeline).__name__} made {tuple(output.shape)} of a picture of {canvas}")
        for i, flagged in enumerate(getattr(answer, "nsfw_content_detected", None) or ()):
            if flagged:
                output[i] = 0  # black, which fails its row
        return unfitted(output, size)

    def _numbers(self, strength: int) -> dict[str, Any]:
        family = self.loaded.family
        numbers: dict[str, Any] = {
            "num_inference_steps": self.num_inference_steps or family.steps,
            **dict(family.others),
        }
        text = family.guidance_scale if self.guidance_scale is None else self.guidance_scale
        if family.image_guidance_scale is not None:
            own = self.image_guidance_scale
            image = family.image_guidance_scale if own is None else own
            numbers["image_guidance_scale"] = max(image - 0.2 * strength, min(image, 1.0))
        else:
            text *= 1 + 0.25 * strength
        return numbers if family.guidance is None else numbers | {family.guidance: text}

    def _texts(self, batch: Sequence[Prepared]) -> dict[str, Any]:
        """What the pipeline is told: texts, or their embeddings, (N, ...) each."""
        import torch

        loaded, texts = self.loaded, [order.edit.instruction for order in batch]
        negative = None if loaded.family.negative is None else self.negative_prompt or loaded.family.negative
        if loaded.texts is None:
            return {"prompt": texts[0]} | ({} if negative is None else {"negative_prompt": negative})
        for tokenizer, limit in loaded.family.tokens(loaded.pipeline):
            warn_of_long(tokenizer, texts, limit)
        rows = loaded.texts(texts)
        told = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        if negative is not None:
            (against,) = loaded.texts([negative])
            told |= {f"negative_{name}": torch.cat([value] * len(batch)) for name, value in against.items()}
        return told


@dataclass(frozen=True)
class _Loaded:
    pipeline: Any
    family: Family
    texts: Once | None


def _encoded(family: Family, pipeline: Any, text: str) -> dict[str, Any]:
    import torch

    assert family.encode is not None
    with torch.no_grad():
        return family.encode(pipeline, text)


def fitted(image: Image.Image, canvas: Size) -> Image.Image:
    """An image scaled alike in both directions to fill a canvas as far as it goes; its rim fills the rest.

    Args:
        canvas: (width, height).
    """
    if image.size == canvas:
        return image
    width, height = _inner(image.size, canvas)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    rest = ((0, canvas[1] - height), (0, canvas[0] - width), (0, 0))
    return Image.fromarray(np.pad(pixels, rest, mode="edge"))


def unfitted(pictures: torch.Tensor, size: Size) -> torch.Tensor:
    """`fitted` undone: (N, 3, H, W) floats of a canvas to those of a picture's (width, height)."""
    import torch

    canvas = (pictures.shape[-1], pictures.shape[-2])
    if canvas == size:
        return pictures
    width, height = _inner(size, canvas)
    inner = pictures[..., :height, :width].float()
    return torch.nn.functional.interpolate(
        inner, (size[1], size[0]), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)


def _inner(size: Size, canvas: Size) -> Size:
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return min(round(size[0] * scale), canvas[0]), min(round(size[1] * scale), canvas[1])


@contextlib.contextmanager
def _noise(family: Family, seed: int) -> Iterator[None]:
    """For a pipeline that draws from torch's global generator too: the row's own noise there, for this pass alone."""
    import torch

    if not family.global_noise:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
