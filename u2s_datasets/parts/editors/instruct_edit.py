"""Instruction editors: any pipeline of diffusers that changes an image as a sentence tells it to.

The pipelines are diffusers' own; `FAMILIES` says how each of them is called. A pipeline that resizes images by a rule
of its own has a `canvas`: images are brought to a size that the rule leaves alone, scaled alike in both directions
and padded, so that every pixel keeps its place (law 6).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import EditFailed, SetupError
from u2s_datasets.parts import checkpoints, checks
from u2s_datasets.parts.editors.diffusion import (
    Batch,
    DiffusionEditor,
    TextEmbeddingCache,
    TextPipeline,
    make_generators,
    warn_if_truncated,
)
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class Family:
    """How a pipeline class is called.

    Args:
        steps: the default of `num_inference_steps`.
        guidance: name of the argument for text guidance; None if it takes none.
        guidance_scale: the default of that argument.
        image_guidance_scale: the default of the argument of this name; None if it takes none.
        negative: what stands for an empty negative prompt; None if the pipeline takes no negative prompt.
        batched: whether it edits several images, each by its own text, in one pass.
        multiple: the sides of its images are multiples of this.
        pixels: of the images that it was trained on.
        bounded: whether it would itself shrink images larger than that.
        sized: from (width, height) to the arguments that say it.
        listed: whether a single image is given as a list of one.
        encode: from the pipeline and a text to its embeddings by argument name, each (1, ...); None if the text is
            read together with its image. A negative prompt's names begin with "negative_".
        tokens: from the pipeline to the (tokenizer, most tokens) of the encoders that would cut a text.
        canvas: from the pipeline and a size to the size that the pipeline makes of it.
        others: further arguments.
        global_noise: whether the pipeline draws from torch's global generator as well.
    """

    steps: int
    guidance: str | None = "guidance_scale"
    guidance_scale: float = 1.0
    image_guidance_scale: float | None = None
    negative: str | None = None
    batched: bool = False
    multiple: int = 16
    pixels: int = 1024 * 1024
    bounded: bool = False
    sized: Callable[[Size], dict[str, int]] = lambda size: {"width": size[0], "height": size[1]}
    listed: bool = False
    encode: Callable[[Any, str], dict[str, Any]] | None = None
    tokens: Callable[[Any], list[tuple[Any, int]]] = lambda pipeline: []
    canvas: Callable[[Any, Size], Size] | None = None
    others: tuple[tuple[str, Any], ...] = ()
    global_noise: bool = False


def _encode_for_sdxl(pipeline: Any, text: str) -> dict[str, Any]:
    tokens, _, pooled, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    if not text and pipeline.config.force_zeros_for_empty_prompt:
        tokens, pooled = tokens * 0, pooled * 0
    return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}


def _encode_for_kontext(pipeline: Any, text: str) -> dict[str, Any]:
    tokens, pooled, _ = pipeline.encode_prompt(text, None)
    return {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}


def _size_by_area(pipeline: Any, size: Size) -> Size:
    """The size that a pipeline of Qwen's or LongCat's makes of an image: about 1024 x 1024 pixels."""
    rule = importlib.import_module(type(pipeline).__module__).calculate_dimensions
    return rule(1024 * 1024, size[0] / size[1])[:2]


_PIX2PIX = Family(
    steps=100, guidance_scale=7.5, image_guidance_scale=1.5, negative="", batched=True, multiple=8,
    pixels=512 * 512, sized=lambda size: {},
    encode=lambda pipeline, text: {
        "prompt_embeds": pipeline._encode_prompt(text, pipeline._execution_device, 1, False)
    },
    tokens=lambda pipeline: [(pipeline.tokenizer, pipeline.tokenizer.model_max_length)],
)  # fmt: skip
_QWEN = Family(steps=50, guidance="true_cfg_scale", guidance_scale=4.0, negative=" ", canvas=_size_by_area)
_FLUX2 = Family(
    # 980 x 980, so that with its padding no image exceeds what the pipeline takes without resizing it
    steps=50, guidance_scale=4.0, pixels=980 * 980, bounded=True, listed=True,
    encode=lambda pipeline, text: {"prompt_embeds": pipeline.encode_prompt(text)[0]},
    tokens=lambda pipeline: [(pipeline.tokenizer, 512)] if pipeline.tokenizer is not None else [],
)  # fmt: skip

# By pipeline class. Values are those of the pipelines' own signatures.
FAMILIES: dict[str, Family] = {
    "StableDiffusionInstructPix2PixPipeline": _PIX2PIX,
    "StableDiffusionXLInstructPix2PixPipeline": replace(
        _PIX2PIX, guidance_scale=5.0, pixels=768 * 768, sized=Family.sized, encode=_encode_for_sdxl,
        tokens=lambda pipeline: [
            (t, t.model_max_length) for t in (pipeline.tokenizer, pipeline.tokenizer_2) if t is not None
        ],
    ),
    "FluxKontextPipeline": Family(
        steps=28, guidance_scale=3.5, batched=True, encode=_encode_for_kontext, others=(("_auto_resize", False),),
        sized=lambda size: {"width": size[0], "height": size[1], "max_area": size[0] * size[1]},
        tokens=lambda pipeline: [(pipeline.tokenizer, pipeline.tokenizer_max_length), (pipeline.tokenizer_2, 512)],
    ),
    "Flux2Pipeline": replace(_FLUX2, tokens=lambda pipeline: [(pipeline.tokenizer.tokenizer, 512)]),
    "Flux2KleinPipeline": replace(_FLUX2, negative=""),
    "Flux2KleinKVPipeline": replace(_FLUX2, steps=4, guidance=None),
    "QwenImageEditPipeline": _QWEN,
    "QwenImageEditPlusPipeline": replace(_QWEN, listed=True),
    "LongCatImageEditPipeline": Family(
        steps=50, guidance_scale=4.5, negative="", sized=lambda size: {}, canvas=_size_by_area
    ),
    "JoyImageEditPipeline": Family(
        steps=40, guidance_scale=4.0, negative="", sized=lambda size: {}, global_noise=True,
        canvas=lambda pipeline, size: (
            pipeline.vae_image_processor.get_default_height_width(None, size[1], size[0])[::-1]
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class InstructEdit(DiffusionEditor):
    """Edit by `Edit.instruction`: InstructPix2Pix (the paper's with MagicBrush's weights), FLUX Kontext, FLUX.2,
    Qwen-Image-Edit, LongCat-Image-Edit or JoyImage-Edit, as the checkpoint's model_index.json says.

    The default weights are InstructPix2Pix's own, since no commit of MagicBrush's in diffusers' layout is pinned
    anywhere: name them with `model`. Licences are listed in `weights`. Each further attempt (`Edit.strength`) lowers
    image guidance by 0.2, down to 1, and for a family without it raises text guidance by a quarter; both loosen the
    hold of the original. A checkpoint whose guidance is built in only tries another seed.

    Images of Qwen, LongCat and JoyImage always go through their model at about 1024 x 1024 pixels, as the pipelines
    require: scaled alike in both directions, padded, and brought back. The others keep their size, down from
    `max_pixels`.

    Args:
        model: a Hub id, or a folder in diffusers' layout.
        num_inference_steps, guidance_scale, image_guidance_scale: None takes the family's own. InstructPix2Pix's
            are above 1 and at least 1: below there would be no guidance at all.
        negative_prompt: what the image is not to show, if the family takes such a text.

    Raises:
        SetupError: also for a checkpoint of another pipeline, or an argument that its family does not take.

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
    limits = DiffusionEditor.limits | {
        "num_inference_steps": checks.check_int,
        "guidance_scale": checks.check_float,
        "image_guidance_scale": lambda name, value: checks.check_float(name, value, 1),
    }
    pipelines: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    def check(self) -> None:
        """As `DiffusionEditor.check`, and that the checkpoint's family takes these arguments."""
        super().check()
        name = self.pipeline_class()
        if not any(checkpoints.folder(self.model, self.revision).glob("*/*.safetensors")):
            raise checkpoints.missing(self.model, self.revision, "has no safetensors")
        family = get_family(name, checkpoints.pipeline_index(self.model, self.revision))
        given_but_unknown = {
            "guidance_scale": self.guidance_scale is not None and family.guidance is None,
            "image_guidance_scale": self.image_guidance_scale is not None and family.image_guidance_scale is None,
            "negative_prompt": bool(self.negative_prompt) and family.negative is None,
        }
        for argument, refused in given_but_unknown.items():
            if refused:
                raise SetupError(f"unsupported {argument}={getattr(self, argument)!r}: {name} takes none; leave it out")
        if family.image_guidance_scale is not None and self.guidance_scale is not None:
            checks.check_float("guidance_scale", self.guidance_scale, 1, above=True)

    def wrap_pipeline(self, pipeline: Any) -> Loaded:
        """The pipeline with its family and the cache of its texts."""
        family = get_family(type(pipeline).__name__, pipeline.config)
        texts = None if family.encode is None else TextEmbeddingCache(functools.partial(family.encode, pipeline))
        return Loaded(pipeline, texts, family)

    def working_size(self) -> tuple[int, int]:
        """The family's multiple of the sides, and the most pixels of an image."""
        family = self.loaded.family
        max_pixels = self.max_pixels or family.pixels
        return family.multiple, min(max_pixels, family.pixels) if family.bounded else max_pixels

    def run_pass(self, batch: Batch) -> Sequence[torch.Tensor]:
        """The edited images, in one pass if the pipeline takes several images, else one by one."""
        groups = [batch] if self.loaded.family.batched else [[order] for order in batch]
        return [image for group in groups for image in self._call_pipeline(group)]

    def _call_pipeline(self, batch: Batch) -> torch.Tensor:
        import torch

        pipeline, family = self.loaded.pipeline, self.loaded.family
        size = batch[0].image.size
        canvas = size if family.canvas is None else choose_canvas(family, pipeline, size)
        inputs = [fit_to_canvas(order.image, canvas) for order in batch]
        generators = make_generators(batch)
        arguments = self._text_arguments(batch) | self._numbers(batch[0].edit.strength) | family.sized(canvas)
        arguments["image"] = inputs if family.batched or family.listed else inputs[0]
        arguments["generator"] = generators if family.batched else generators[0]
        with torch.random.fork_rng(enabled=family.global_noise):
            if family.global_noise:
                torch.manual_seed(batch[0].edit.seed)
            answer = pipeline(**arguments, output_type="pt")
        output = answer.images
        if output.shape[-2:] != (canvas[1], canvas[0]):
            raise EditFailed(f"{type(pipeline).__name__} made {tuple(output.shape)} of an image of {canvas}")
        unsafe = getattr(answer, "nsfw_content_detected", None) or [False] * len(batch)
        output[torch.tensor(unsafe, device=output.device)] = 0  # black, which fails its row
        return crop_from_canvas(output, size)

    def _numbers(self, strength: int) -> dict[str, Any]:
        family = self.loaded.family
        numbers = {"num_inference_steps": self.num_inference_steps or family.steps, **dict(family.others)}
        text_scale = family.guidance_scale if self.guidance_scale is None else self.guidance_scale
        if family.image_guidance_scale is not None:
            image_scale = self.image_guidance_scale or family.image_guidance_scale
            numbers["image_guidance_scale"] = max(image_scale - 0.2 * strength, min(image_scale, 1.0))
        else:
            text_scale *= 1 + 0.25 * strength
        return numbers if family.guidance is None else numbers | {family.guidance: text_scale}

    def _text_arguments(self, batch: Batch) -> dict[str, Any]:
        """The texts as the pipeline takes them: as they are, or as their embeddings, (N, ...) each."""
        import torch

        loaded, texts = self.loaded, [order.edit.instruction for order in batch]
        negative = None if loaded.family.negative is None else self.negative_prompt or loaded.family.negative
        if loaded.texts is None:
            return {"prompt": texts[0]} | ({} if negative is None else {"negative_prompt": negative})
        for tokenizer, max_tokens in loaded.family.tokens(loaded.pipeline):
            warn_if_truncated(tokenizer, texts, max_tokens)
        rows = loaded.texts(texts)
        arguments = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        if negative is not None:
            (row,) = loaded.texts([negative])
            arguments |= {f"negative_{name}": torch.cat([value] * len(batch)) for name, value in row.items()}
        return arguments


@dataclass(frozen=True)
class Loaded(TextPipeline):
    """What `InstructEdit.loaded` is."""

    family: Family


def get_family(pipeline_class: str, config: Mapping[str, Any]) -> Family:
    """How a pipeline is called.

    Args:
        pipeline_class: a name of `FAMILIES`.
        config: of the pipeline, or a checkpoint's model_index.json.
    """
    if config.get("is_distilled"):  # FLUX.2 klein: four steps, and guidance is built in
        return replace(FAMILIES[pipeline_class], steps=4, guidance=None, negative=None)
    return FAMILIES[pipeline_class]


def choose_canvas(family: Family, pipeline: Any, size: Size) -> Size:
    """Of the sizes that the pipeline does not resize, the one that an image of this size fills best."""
    assert family.canvas is not None
    middle, near = family.canvas(pipeline, size), range(-384, 385, 16)
    candidates = [(middle[0] + x, middle[1] + y) for x in near for y in near if middle[0] + x > 0 and middle[1] + y > 0]

    def filled_share(canvas: Size) -> float:
        scale = min(canvas[0] / size[0], canvas[1] / size[1])
        return scale * scale * size[0] * size[1] / (canvas[0] * canvas[1])

    for canvas in sorted(candidates, key=filled_share, reverse=True):
        if family.canvas(pipeline, canvas) == canvas:
            return canvas
    raise EditFailed(f"{type(pipeline).__name__} resizes every image of about {middle}")


def fit_to_canvas(image: Image.Image, canvas: Size) -> Image.Image:
    """The image scaled alike in both directions to fill a canvas as far as it goes; its rim is repeated to fill it.

    Args:
        canvas: (width, height).
    """
    if image.size == canvas:
        return image
    width, height = _scaled_size(image.size, canvas)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    rest = ((0, canvas[1] - height), (0, canvas[0] - width), (0, 0))
    return Image.fromarray(np.pad(pixels, rest, mode="edge"))


def crop_from_canvas(outputs: torch.Tensor, size: Size) -> torch.Tensor:
    """`fit_to_canvas` undone: (N, 3, H, W) floats of a canvas to those of an image of (width, height)."""
    import torch

    canvas = (outputs.shape[-1], outputs.shape[-2])
    if canvas == size:
        return outputs
    width, height = _scaled_size(size, canvas)
    inner = outputs[..., :height, :width].float()
    return torch.nn.functional.interpolate(
        inner, (size[1], size[0]), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)


def _scaled_size(size: Size, canvas: Size) -> Size:
    """The largest size with the same proportions that fits into a canvas."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    return min(round(size[0] * scale), canvas[0]), min(round(size[1] * scale), canvas[1])
