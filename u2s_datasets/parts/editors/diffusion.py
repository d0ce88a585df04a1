"""What all diffusion editors share: options, loading, each row's noise, texts encoded once.

A subclass edits a batch of images of one size and one strength (`DiffusionEditor.run_pass`); `batches` does the rest.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Edit, Editor, checkpoints, checks
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.weights import pinned

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Batch = Sequence[batches.Prepared]  # of one size


@dataclass(frozen=True)
class DiffusionEditor(Editor):
    """Base of the editors that run a diffusers pipeline. Subclasses implement `run_pass`.

    Args:
        model: a Hub id, or a folder in diffusers' layout with safetensors.
        revision: commit of the Hub repository, or "main"; None, and for any other model the default too, takes the
            commit of `weights.WEIGHTS` if the model is listed there.
        dtype: "float32", "bfloat16" or "float16".
        device: such as "cuda:1"; None takes the GPU of this process's rank, or the CPU if there is no GPU.
        batch_size: most images in one pass; halved for the rest of a call when memory runs out.
        max_pixels: larger photos are edited at this many pixels and brought back to their size; None is the
            family's own.
        region: "image" replaces the whole image, "boxes" only the feathered surroundings of `Edit.boxes`, and
            every other pixel stays as it was. An order without boxes is for the whole image.
        offload: None, or "model" or "sequential" to keep only the networks at work on the GPU (diffusers,
            accelerate).
        compile: whether to compile the denoiser by torch.compile.
        attention: a name of diffusers' attention backends, such as "flash"; None leaves its own choice. FLUX and
            later models take one, SD3 and the UNets of Stable Diffusion do not.

    Raises:
        SetupError: an invalid value, or one that the model does not take; `MissingExtra` and `MissingWeights` name
            the command that helps.
    """

    model: str = ""
    revision: str | None = None
    dtype: str = "float16"
    device: str | None = None
    batch_size: int = 4
    max_pixels: int | None = None
    region: str = "image"
    offload: str | None = None
    compile: bool = False
    attention: str | None = None

    on_gpu: ClassVar[bool] = True
    multiple: ClassVar[int] = 8  # the sides of the model's images are multiples of this
    family_pixels: ClassVar[int] = 1024 * 1024  # of the images that the model was trained on
    shown: ClassVar[tuple[str, ...]] = ("revision", "dtype", "region", "offload", "attention")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers")
    pipelines: ClassVar[tuple[str, ...]] = ()  # classes that a checkpoint may name as its pipeline; empty: any
    choices: ClassVar[dict[str, tuple[str | None, ...]]] = {
        "dtype": checkpoints.DTYPES,
        "region": ("image", "boxes"),
        "offload": (None, "model", "sequential"),
    }
    # The check of each number; None passes only where it is the default.
    limits: ClassVar[dict[str, Callable[[str, Any], None]]] = {"batch_size": checks.check_int}

    def __post_init__(self) -> None:
        if self.revision is None or (self.model != type(self).model and self.revision == type(self).revision):
            object.__setattr__(self, "revision", pinned(self.model)[1])

    def check(self) -> None:
        """Raise `SetupError` for an invalid value, a missing package, device or checkpoint; loads no weights."""
        self.check_values()
        checkpoints.need("models", "torch", "diffusers", "transformers")
        checkpoints.device(self.device)
        checkpoints.folder(self.model, self.revision)
        if self.pipelines:
            self.pipeline_class()

    def check_values(self) -> None:
        """Raise `SetupError` for a value that works with no checkpoint; needs neither packages nor weights."""
        for name, allowed in self.choices.items():
            if getattr(self, name) not in allowed:
                expected = ", ".join(map(str, allowed))
                raise SetupError(f"unknown {name} {getattr(self, name)!r}; expected one of: {expected}")
        for name, check in self.limits.items():
            if getattr(self, name) is not None or getattr(type(self), name) is not None:
                check(name, getattr(self, name))
        if self.max_pixels is not None:
            checks.check_int("max_pixels", self.max_pixels, self.multiple**2)

    def pipeline_class(self) -> str:
        """The pipeline class that the checkpoint names. Raises `SetupError` if this editor cannot run it."""
        name = checkpoints.pipeline_index(self.model, self.revision).get("_class_name")
        if name not in self.pipelines:
            raise SetupError(
                f"unsupported pipeline {name!r} of model={self.model!r}; {type(self).__name__} runs: "
                f"{', '.join(self.pipelines)}"
            )
        return name

    def config(self) -> dict[str, Any]:
        """The constructor arguments with the model's Hub id; a local folder is not shown."""
        return super().config() | checkpoints.public_id(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": checkpoints.fingerprint(self.model, self.revision)}

    def load(self) -> Any:
        """The checkpoint's pipeline on its device, as `wrap_pipeline` keeps it; raises `SetupError` as `check` does."""
        import diffusers
        import torch
        import transformers

        self.check()
        folder = str(checkpoints.folder(self.model, self.revision))
        with checkpoints.quietly(diffusers, transformers):
            made = self.pipeline(folder, dtype=getattr(torch, self.dtype), local_files_only=True, use_safetensors=True)
        return self.wrap_pipeline(self.to_device(made))

    def pipeline(self, folder: str, **options: Any) -> Any:
        """The diffusers pipeline of a checkpoint; `options` go to `from_pretrained`."""
        import diffusers

        index = checkpoints.pipeline_index(self.model, self.revision)
        absent = {name: None for name, value in index.items() if value == [None, None]}  # as T5 may be in SD3
        return getattr(diffusers, self.pipeline_class()).from_pretrained(folder, **absent | options)

    def to_device(self, pipeline: Any) -> Any:
        """The pipeline on its device as `attention`, `offload` and `compile` say, without progress bars."""
        pipeline.set_progress_bar_config(disable=True)
        # Pipelines and tokenizers warn of a long prompt by quoting what is cut off, and some prompts are private:
        # both are silenced, and `warn_if_truncated` counts instead.
        logging.getLogger(type(pipeline).__module__).setLevel(logging.ERROR)
        for component in pipeline.components.values():
            warned = getattr(component, "deprecation_warnings", {})
            warned["sequence-length-is-longer-than-the-specified-maximum"] = True
        denoiser = pipeline.unet if getattr(pipeline, "unet", None) is not None else pipeline.transformer
        if self.attention is not None:
            _set_attention_backend(denoiser, self.attention)
        device = checkpoints.device(self.device)
        if self.offload is None:
            pipeline.to(device)
        else:
            getattr(pipeline, f"enable_{self.offload}_cpu_offload")(device=device)
        if self.compile:
            denoiser.compile()
        return pipeline

    def wrap_pipeline(self, pipeline: Any) -> Any:
        """What `loaded` is: the pipeline on its device with whatever else the editor keeps beside it."""
        return pipeline

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One RGB image per order, of its image's size.

        Raises:
            EditFailed: the only order failed.
            PartlyFailed: some of several failed; it holds every order's image or error.
        """
        # A batch rounds otherwise than a single image. On the CPU, where it saves no time, law 5 holds to the bit.
        batch_size = 1 if checkpoints.device(self.device) == "cpu" else self.batch_size
        return batches.edit(edits, self.run, *self.working_size(), batch_size, self.region, self.needs)

    def working_size(self) -> tuple[int, int]:
        """What the sides of the model's images are multiples of, and the most pixels they have."""
        return self.multiple, self.max_pixels or self.family_pixels

    def run(self, batch: Batch) -> torch.Tensor:
        """The edited images of a batch of one size, (N, 3, H, W) floats in [0, 1] in the order of `batch`."""
        import torch

        outputs: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for strength in {order.edit.strength for order in batch}:
                rows = [i for i, order in enumerate(batch) if order.edit.strength == strength]
                outputs |= zip(rows, self.run_pass([batch[i] for i in rows]), strict=True)
        return torch.stack([outputs[i] for i in range(len(batch))])

    def run_pass(self, batch: Batch) -> Sequence[torch.Tensor]:
        """As `run`, for orders that share one `Edit.strength`; called without gradients."""
        raise NotImplementedError


def _set_attention_backend(denoiser: Any, attention: str) -> None:
    # diffusers silently skips layers that take no backend, so a model without any would ignore the setting.
    processors = [getattr(module, "processor", None) for module in denoiser.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise SetupError(
            f"attention={attention!r}: diffusers' {type(denoiser).__name__} takes no attention backend; leave it out"
        )
    try:
        denoiser.set_attention_backend(attention)
    except (ValueError, RuntimeError, ImportError) as error:
        raise SetupError(f"attention={attention!r} cannot be used here: {error}; leave it out") from error


def make_generators(batch: Batch) -> list[torch.Generator]:
    """Each row's own source of noise, on the CPU: neighbours, order and device do not change it (law 5)."""
    import torch

    return [torch.Generator("cpu").manual_seed(order.edit.seed) for order in batch]


def draw_noise(latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
    """Standard normal noise of the shape (N, ...), row i drawn from source i in the latents' dtype, contiguous."""
    import torch

    rows = [torch.randn(latents.shape[1:], generator=source, dtype=latents.dtype) for source in sources]
    return torch.stack(rows).to(latents.device)


def stack_pixels(batch: Batch) -> torch.Tensor:
    """The images of a batch as (N, 3, H, W) float32 in [-1, 1], as VAEs take them."""
    import torch

    arrays = np.stack([np.asarray(order.image, dtype=np.float32) for order in batch])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


class TextEmbeddingCache:
    """Encodes each distinct text once, by itself, so that its embedding depends on no other text.

    Args:
        encode: from a text to its embeddings, such as a tuple of tensors.
        max_texts: how many texts are remembered; the least recently used is forgotten first.
    """

    def __init__(self, encode: Callable[[str], Any], max_texts: int = 512) -> None:
        self.encode = functools.lru_cache(max_texts)(encode)

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        """The embeddings of each text, in order."""
        return [self.encode(text) for text in texts]


def warn_if_truncated(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> None:
    """Log how many texts are longer than an encoder reads, never which: some are private.

    Args:
        max_tokens: the most tokens that the encoder takes, special tokens included.
    """
    # Not verbose: else transformers logs its own warning of such a text.
    longer = sum(len(tokenizer(text, verbose=False).input_ids) > max_tokens for text in set(texts))
    if longer:
        log.warning(
            "%d of %d texts are longer than the %d tokens that an encoder of %s reads; the rest of them is lost",
            longer,
            len(set(texts)),
            max_tokens,
            type(tokenizer).__name__,
        )


@dataclass(frozen=True)
class TextPipeline:
    """What `loaded` is for an editor that encodes its texts by itself.

    Args:
        pipeline: on its device.
        texts: None if the pipeline reads a text together with its image.
    """

    pipeline: Any
    texts: TextEmbeddingCache | None
