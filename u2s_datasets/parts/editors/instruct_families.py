"""One mapping of argument names per instruction-editing pipeline of diffusers: what `InstructEdit` calls, and how.

A pipeline that changes a picture's size by a rule of its own has a `canvas`: pictures are brought to a size that the
rule leaves alone, scaled alike in both directions and padded, so that every pixel keeps its place (law 6).
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from u2s_datasets.errors import EditFailed, SetupError

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Family:
    """How a pipeline class is called.

    Args:
        steps: `num_inference_steps` where the user names none.
        guidance: the argument that text guidance has; None where it has none.
        guidance_scale: its value where the user names none.
        image_guidance_scale: the value of the argument of this name; None where there is none.
        negative: what stands for an empty negative prompt; None where the pipeline takes none.
        batched: whether it edits several pictures, each by its own text, in one pass.
        multiple: what the sides of its pictures are multiples of.
        pixels: of the pictures that it was trained on.
        bounded: whether it would scale larger pictures than that by itself.
        sized: from (width, height) to the arguments that say it.
        listed: whether a single picture is given as a list of one.
        encode: from the pipeline and a text to its embeddings by argument name, each (1, ...); None where a text
            is read together with its picture. A negative prompt's names begin with "negative_".
        tokens: from the pipeline to the (tokenizer, most tokens) of the encoders that would cut a text.
        canvas: from the pipeline and a size to the size that it makes of it.
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


def _unsized(size: Size) -> dict[str, int]:
    return {}


def _kontext_size(size: Size) -> dict[str, int]:
    return {"width": size[0], "height": size[1], "max_area": size[0] * size[1]}


def _clip(pipeline: Any, text: str) -> dict[str, Any]:
    return {"prompt_embeds": pipeline._encode_prompt(text, pipeline._execution_device, 1, False)}


def _clip_pair(pipeline: Any, text: str) -> dict[str, Any]:
    words, _, pooled, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    if not text and pipeline.config.force_zeros_for_empty_prompt:
        words, pooled = words * 0, pooled * 0
    return {"prompt_embeds": words, "pooled_prompt_embeds": pooled}


def _clip_and_t5(pipeline: Any, text: str) -> dict[str, Any]:
    words, pooled, _ = pipeline.encode_prompt(text, None)
    return {"prompt_embeds": words, "pooled_prompt_embeds": pooled}


def _language_model(pipeline: Any, text: str) -> dict[str, Any]:
    return {"prompt_embeds": pipeline.encode_prompt(text)[0]}


def _clip_tokens(pipeline: Any) -> list[tuple[Any, int]]:
    both = [pipeline.tokenizer, getattr(pipeline, "tokenizer_2", None)]
    return [(tokenizer, tokenizer.model_max_length) for tokenizer in both if tokenizer is not None]


def _clip_and_t5_tokens(pipeline: Any) -> list[tuple[Any, int]]:
    return [(pipeline.tokenizer, pipeline.tokenizer_max_length), (pipeline.tokenizer_2, 512)]


def _by_area(pipeline: Any, size: Size) -> Size:
    """The size that a pipeline of Qwen's or LongCat's makes of a picture: about 1024 x 1024 pixels."""
    rule = importlib.import_module(type(pipeline).__module__).calculate_dimensions
    width, height = rule(1024 * 1024, size[0] / size[1])[:2]
    return width, height


def _bucket(pipeline: Any, size: Size) -> Size:
    height, width = pipeline.vae_image_processor.get_default_height_width(None, size[1], size[0])
    return width, height


_PIX2PIX = Family(
    steps=100, guidance_scale=7.5, image_guidance_scale=1.5, negative="", batched=True, multiple=8,
    pixels=512 * 512, sized=_unsized, encode=_clip, tokens=_clip_tokens,
)  # fmt: skip
_QWEN = Family(steps=50, guidance="true_cfg_scale", guidance_scale=4.0, negative=" ", canvas=_by_area)
_FLUX2 = Family(
    # 980 x 980, so that with its padding no picture is beyond what the pipeline takes as it is
    steps=50, guidance_scale=4.0, pixels=980 * 980, bounded=True, listed=True, encode=_language_model,
    tokens=lambda pipeline: [(pipeline.tokenizer, 512)] if pipeline.tokenizer is not None else [],
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "StableDiffusionInstructPix2PixPipeline": _PIX2PIX,
    "StableDiffusionXLInstructPix2PixPipeline": dataclasses.replace(
        _PIX2PIX, guidance_scale=5.0, pixels=768 * 768, sized=Family.sized, encode=_clip_pair
    ),
    "FluxKontextPipeline": Family(
        steps=28, guidance_scale=3.5, batched=True, sized=_kontext_size, encode=_clip_and_t5,
        tokens=_clip_and_t5_tokens, others=(("_auto_resize", False),),
    ),
    "Flux2Pipeline": dataclasses.replace(_FLUX2, tokens=lambda pipeline: [(pipeline.tokenizer.tokenizer, 512)]),
    "Flux2KleinPipeline": dataclasses.replace(_FLUX2, negative=""),
    "Flux2KleinKVPipeline": dataclasses.replace(_FLUX2, steps=4, guidance=None),
    "QwenImageEditPipeline": _QWEN,
    "QwenImageEditPlusPipeline": dataclasses.replace(_QWEN, listed=True),
    "LongCatImageEditPipeline": Family(steps=50, guidance_scale=4.5, negative="", sized=_unsized, canvas=_by_area),
    "JoyImageEditPipeline": Family(
        steps=40, guidance_scale=4.0, negative="", sized=_unsized, canvas=_bucket, global_noise=True
    ),
}  # fmt: skip
"""Pipeline class -> how it is called. Values are those of the pipelines' own signatures."""


def family_of(index: Mapping[str, Any]) -> tuple[str, Family]:
    """The pipeline class that a checkpoint names, and how that is called.

    Args:
        index: of a checkpoint's model_index.json, or a pipeline's `config`.

    Raises:
        SetupError: no instruction-editing pipeline that is known here; the message lists those that are.
    """
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise SetupError(f"the checkpoint's pipeline is {name!r}; InstructEdit knows: {', '.join(FAMILIES)}")
    family = FAMILIES[name]
    if index.get("is_distilled"):  # FLUX.2 klein: four steps, and guidance is built in
        family = dataclasses.replace(family, steps=4, guidance=None, negative=None)
    return name, family


def canvas_for(family: Family, pipeline: Any, size: Size) -> Size:
    """Of the sizes that the pipeline leaves as they are, the one that a picture of this size fills best."""
    assert family.canvas is not None
    middle, near = family.canvas(pipeline, size), range(-384, 385, 16)
    best, most = None, 0.0
    for width in (middle[0] + change for change in near if middle[0] + change > 0):
        for height in (middle[1] + change for change in near if middle[1] + change > 0):
            scale = min(width / size[0], height / size[1])
            filled = scale * scale * size[0] * size[1] / (width * height)
            if filled > most and family.canvas(pipeline, (width, height)) == (width, height):
                best, most = (width, height), filled
    if best is None:
        raise EditFailed(f"{type(pipeline).__name__} leaves no size near {middle} as it is")
    return best
