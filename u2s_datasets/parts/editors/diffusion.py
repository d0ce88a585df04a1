"""What all diffusion editors share: options, loading, each row's noise, texts encoded once.

An editor says how a batch of equally large pictures is edited (`DiffusionEditor.run`); `batches` does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Edit, Editor, checkpoints, checks
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.weights import pinned

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

REGIONS = ("image", "boxes")
OFFLOADS = (None, "model", "sequential")


@dataclass(frozen=True)
class DiffusionEditor(Editor):
    """Base of the editors that run a diffusers pipeline. Subclasses give `multiple`, `pipeline` and `run`.

    Args:
        model: a Hub id, or a folder in diffusers' layout with safetensors.
        revision: commit of the Hub repository, or "main"; None, and for another than the default model the default
            too, is that of `weights.WEIGHTS` if the model is there.
        dtype: "float32", "bfloat16" or "float16".
        device: such as "cuda:1"; None takes the GPU of this process's rank, or the CPU where there is none.
        batch_size: most images in one pass; halved for the rest of a call when memory runs out.
        max_pixels: larger photos are edited at so many pixels and brought back to their size; None is the
            family's own.
        region: "image" replaces the whole image, "boxes" the feathered surroundings of `Edit.boxes` alone, and
            every other pixel stays as it was. An order without boxes is for the whole image.
        offload: None, or "model" or "sequential" to keep on the GPU only what is at work (diffusers, accelerate).
        compile: whether to compile the denoiser by torch.compile.
        attention: a name of diffusers' attention backends, such as "flash"; None leaves its own choice. FLUX and
            later models take one, SD3 and the UNets of Stable Diffusion take none.

    Raises:
        SetupError: a value that cannot work, or that the model does not take; `MissingExtra` and `MissingWeights` name
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
    multiple: ClassVar[int] = 8
    """Sides of the model's pictures are multiples of it."""
    family_pixels: ClassVar[int] = 1024 * 1024
    """Pixels of the pictures that the model was trained on."""
    shown: ClassVar[tuple[str, ...]] = ("revision", "dtype", "region", "offload", "attention")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers")
    pipelines: ClassVar[tuple[str, ...]] = ()
    """Classes of diffusers that a checkpoint may name as its pipeline; none: any."""

    def __post_init__(self) -> None:
        if self.revision is None or (self.model != type(self).model and self.revision == type(self).revision):
            object.__setattr__(self, "revision", pinned(self.model)[1])

    def check(self) -> None:
        """Raises `SetupError` for a value, a package, a device or weights that are not there; loads no weights."""
        self.check_values()
        checkpoints.need("models", "torch", "diffusers", "transformers")
        if self.device is not None:
            checkpoints.device(self.device)
        checkpoints.folder(self.model, self.revision)
        if self.pipelines:
            self.pipeline_class()

    def pipeline_class(self) -> str:
        """The pipeline that the checkpoint names. Raises `SetupError` for one that this editor cannot run."""
        name = checkpoints.pipeline_index(self.model, self.revision).get("_class_name")
        if name not in self.pipelines:
            known = " or a ".join(self.pipelines)
            raise SetupError(f"model={self.model!r} is a {name}; {type(self).__name__} takes a {known}")
        return name

    def check_values(self) -> None:
        """Raises `SetupError` for a value that works with no checkpoint; needs neither packages nor weights."""
        if self.dtype not in checkpoints.DTYPES:
            raise SetupError(f"dtype={self.dtype!r}: choose one of {', '.join(checkpoints.DTYPES)}")
        if self.region not in REGIONS:
            raise SetupError(f"region={self.region!r}: choose one of {', '.join(REGIONS)}")
        if self.offload not in OFFLOADS:
            raise SetupError(f"offload={self.offload!r}: choose None, 'model' or 'sequential'")
        checks.check_int("batch_size", self.batch_size)
        if self.max_pixels is not None:
            checks.check_int("max_pixels", self.max_pixels, self.multiple**2)

    def config(self) -> dict[str, Any]:
        """As every part's, and the model's Hub id; a folder is not shown."""
        return super().config() | checkpoints.public_id(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": checkpoints.fingerprint(self.model, self.revision)}

    def pipeline(self, folder: str, **options: Any) -> Any:
        """The diffusers pipeline of a checkpoint; `options` go to `from_pretrained`."""
        raise NotImplementedError

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited pictures of a batch of one size, (N, 3, H, W) floats in [0, 1] in the order of `batch`."""
        raise NotImplementedError

    def load(self) -> Any:
        """What `around` makes of the checkpoint's pipeline; raises `SetupError` as `check` does."""
        import diffusers
        import torch
        import transformers

        self.check()
        folder = str(checkpoints.folder(self.model, self.revision))
        with checkpoints.quietly(diffusers, transformers):
            made = self.pipeline(folder, dtype=getattr(torch, self.dtype), local_files_only=True, use_safetensors=True)
        return self.around(placed(made, self.device, self.offload, self.compile, self.attention))

    def around(self, pipeline: Any) -> Any:
        """What `loaded` is: the pipeline on its device, and whatever else the editor keeps beside it."""
        return pipeline

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One RGB image per order, of its image's size.

        Raises:
            EditFailed: the only order failed.
            PartlyFailed: some of several failed; it holds every order's image or error.
        """
        limit = self.max_pixels or self.family_pixels
        # A batch rounds otherwise than a single image. On the CPU, where it saves no time, law 5 holds to the bit.
        batch_size = 1 if checkpoints.device(self.device) == "cpu" else self.batch_size
        return batches.edit(edits, self.run, self.multiple, limit, batch_size, self.region, self.needs)


def placed(pipeline: Any, device: str | None, offload: str | None, compile: bool, attention: str | None) -> Any:
    """A pipeline on its device, as the options of `DiffusionEditor` say, without progress bars."""
    pipeline.set_progress_bar_config(disable=True)
    # Its warning of a long prompt quotes the words that are cut off, and some are private; see `warn_of_long`.
    logging.getLogger(type(pipeline).__module__).setLevel(logging.ERROR)
    for part in pipeline.components.values():  # and transformers would say that it leads to errors, which it does not
        getattr(part, "deprecation_warnings", {})["sequence-length-is-longer-than-the-specified-maximum"] = True
    denoiser = pipeline.unet if getattr(pipeline, "unet", None) is not None else pipeline.transformer
    if attention is not None:
        _attend_by(denoiser, attention)
    where = checkpoints.device(device)
    if offload is None:
        pipeline.to(where)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=where)
    else:
        pipeline.enable_sequential_cpu_offload(device=where)
    if compile:
        denoiser.compile()
    return pipeline


def _attend_by(denoiser: Any, attention: str) -> None:
    """Set the attention backend. diffusers passes over the layers that have none, and does so in silence."""
    processors = [getattr(module, "processor", None) for module in denoiser.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        name = type(denoiser).__name__
        raise SetupError(f"attention={attention!r}: diffusers' {name} takes no attention backend; leave it out")
    try:
        denoiser.set_attention_backend(attention)
    except (ValueError, RuntimeError, ImportError) as error:
        raise SetupError(f"attention={attention!r} cannot be used here: {error}") from error


def generators(batch: Sequence[Prepared]) -> list[torch.Generator]:
    """Each row's own source of noise, on the CPU: neighbours, order and device change none of it (law 5)."""
    import torch

    return [torch.Generator("cpu").manual_seed(order.edit.seed) for order in batch]


def noise_like(latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
    """Standard normal noise of the shape (N, ...), row i drawn from source i in the latents' dtype, contiguous."""
    import torch

    rows = [torch.randn(latents.shape[1:], generator=source, dtype=latents.dtype) for source in sources]
    return torch.stack(rows).to(latents.device)


def pixels_of(batch: Sequence[Prepared]) -> torch.Tensor:
    """The pictures of a batch as (N, 3, H, W) float32 in [-1, 1], as VAEs take them."""
    import torch

    arrays = np.stack([np.asarray(order.image, dtype=np.float32) for order in batch])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


@dataclass(frozen=True)
class Once:
    """Encodes each distinct text once, by itself, so that its embedding depends on no other text.

    Args:
        encode: from a text to its embeddings, any tuple of tensors.
        most: how many texts are remembered; the one used longest ago is forgotten first.
    """

    encode: Callable[[str], Any]
    most: int = 512
    known: dict[str, Any] = field(default_factory=dict, repr=False)

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        """The embeddings of each text, in order."""
        for text in texts:
            self.known[text] = self.known.pop(text) if text in self.known else self.encode(text)
        answers = [self.known[text] for text in texts]
        while len(self.known) > self.most:
            del self.known[next(iter(self.known))]
        return answers


def warn_of_long(tokenizer: Any, texts: Sequence[str], limit: int) -> None:
    """Say how many texts are longer than an encoder reads, never which: some are private.

    Args:
        limit: the most tokens that the encoder takes, its own marks included.
    """
    # Not verbose: else transformers warns of such a text in words of its own; see `placed`.
    longer = sum(len(tokenizer(text, verbose=False).input_ids) > limit for text in set(texts))
    if longer:
        log.warning(
            "%d of %d texts are longer than the %d tokens that an encoder of %s reads; the rest of them is lost",
            longer,
            len(set(texts)),
            limit,
            type(tokenizer).__name__,
        )
