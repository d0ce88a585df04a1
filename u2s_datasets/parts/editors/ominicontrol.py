"""OminiControl on FLUX: the source picture's tokens are a third branch beside the text's and the noise's.

Tan et al., "OminiControl: Minimal and Universal Control for Diffusion Transformer", arXiv 2411.15098. All branches
pass the same blocks; only the source's has a LoRA, and it stands at timestep 0 with guidance 1.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import checkpoints, checks
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, generators, noise_like, pixels_of
from u2s_datasets.parts.editors.flow_models import Flux, packed, places, unpacked
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

    from u2s_datasets.parts.editors.flux_branches import Branches

log = logging.getLogger(__name__)

STRONGER = 0.5
"""By what share of itself the guidance scale grows at each further attempt."""

_SOURCE = re.compile(
    r"x_embedder|transformer_blocks\.\d+\.(norm1\.linear|attn\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(norm\.linear|proj_mlp|proj_out|attn\.to_(q|k|v))"
)
"""The linear layers that the source branch passes."""


@dataclass(frozen=True)
class OminiControl(DiffusionEditor):
    """Rewrites a picture by `Edit.instruction`, with FLUX and a LoRA that was trained for that.

    The instruction is what the paper gives to OminiControl; weights trained on descriptions of the result would want
    those instead. The paper's weights are not public, so `lora` has no default. A further attempt (`Edit.strength`)
    follows the text more closely: the guidance scale grows by half of itself each time.

    Licences: FLUX.1-dev's weights are for non-commercial use, FLUX.1-schnell's are under Apache-2.0.

    Args:
        model: a Hub id, or a folder in diffusers' layout, of `FluxPipeline`.
        lora: a safetensors file as diffusers or peft write it, a folder with one, or a Hub id.
        lora_file: which file of the folder or repository, if it has several.
        lora_revision: commit of the LoRA's Hub repository.
        lora_scale: what the LoRA is multiplied by. 1 is what the public implementation trains and runs with,
            whatever `alpha` a file has.
        num_inference_steps: T, steps of the noise schedule.
        guidance_scale: the number that the distilled model takes for the text's and the image's branches.
        max_sequence_length: tokens that T5 reads, up to 512. CLIP reads 77.
        position_delta: rows and columns, of 16 pixels, by which the source's tokens are moved: (0, 0) in the paper,
            so that source and image lie on each other.
        position_scale: rows and columns from one token of the source to the next, 1 or more. Above 1 the source is
            encoded at so many times fewer pixels a side, for weights trained so.
        independent_condition: for weights trained so: the source attends to itself alone, and is worked out once
            per picture instead of at every step.

    Raises:
        SetupError: a value that cannot work, or a LoRA that is none, or none of this model.

    The other arguments are those of `DiffusionEditor`; the weights were trained at 512 pixels a side. Source: arXiv
    2411.15098, section 3; Unsafe2Safe, supplement S2.2.
    """

    model: str = "black-forest-labs/FLUX.1-dev"
    revision: str | None = WEIGHTS["black-forest-labs/FLUX.1-dev"].revision
    dtype: str = "bfloat16"
    lora: str = ""
    lora_file: str | None = None
    lora_revision: str | None = None
    lora_scale: float = 1.0
    num_inference_steps: int = 28
    guidance_scale: float = 3.5
    max_sequence_length: int = 512
    position_delta: tuple[int, int] = (0, 0)
    position_scale: int = 1
    independent_condition: bool = False

    multiple: ClassVar[int] = 16
    family_pixels: ClassVar[int] = 512 * 512
    needs: ClassVar[tuple[str, ...]] = ("instruction",)
    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "safetensors")

    def check_values(self) -> None:
        """As every diffusion editor's."""
        super().check_values()
        checks.check_int("num_inference_steps", self.num_inference_steps)
        checks.check_int("max_sequence_length", self.max_sequence_length, 1, 512)
        checks.check_int("position_scale", self.position_scale)
        for name in ("lora_scale", "guidance_scale"):
            checks.check_float(name, getattr(self, name))

    def check(self) -> None:
        """As every diffusion editor's, and the LoRA's file; loads no weights."""
        self.check_values()
        self._lora()
        super().check()

    def config(self) -> dict[str, Any]:
        """As every part's, and the LoRA's Hub id; a file or folder is not shown."""
        public = checkpoints.public_id(self.lora)
        return super().config() | ({"lora": public["model"]} if public else {})

    def __getstate__(self) -> dict[str, Any]:
        try:
            file = self._lora().stat()
        except SetupError:
            return super().__getstate__()
        return super().__getstate__() | {"lora": (file.st_size, file.st_mtime_ns)}

    def pipeline(self, folder: str, **options: Any) -> Any:
        """The FLUX pipeline of a checkpoint."""
        import diffusers

        return diffusers.FluxPipeline.from_pretrained(folder, **options)

    def around(self, pipeline: Any) -> tuple[Flux, Branches]:
        """The model, and its transformer without and with the LoRA."""
        import torch

        from u2s_datasets.parts.editors import lora
        from u2s_datasets.parts.editors.flux_branches import Branches

        device, changes = checkpoints.device(self.device), lora.read(self._lora())
        unused = sorted(name for name in changes if not _SOURCE.fullmatch(name))
        if unused:
            log.warning("the LoRA also has %d layers that the source does not pass, as %s", len(unused), unused[0])
        used = {name: change for name, change in changes.items() if name not in unused}
        known = {name for name, _ in pipeline.transformer.named_modules()}
        if used.keys() - known or not used:
            strange = ", ".join(sorted(used.keys() - known)[:3]) or "nothing for the source"
            raise SetupError(f"lora={self.lora!r} is of another model than {self.model!r}: it has {strange}")
        adapted = lora.adapted(pipeline.transformer, used, self.lora_scale, device)
        branches = Branches(pipeline.transformer, adapted)
        if self.compile:  # what is compiled by `placed` is diffusers' own forward pass, which is not used here
            object.__setattr__(branches, "through", torch.compile(branches.through))
        return Flux(pipeline, device, self.max_sequence_length), branches

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited pictures of a batch of one size, (N, 3, H, W) floats in [0, 1] in the order of `batch`."""
        import torch

        model, _ = self.loaded
        with torch.no_grad():
            pictures = model.decode(self.latents(batch))
        model.pipeline.maybe_free_model_hooks()
        return pictures

    def latents(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited latents of a batch of one size, (N, C, H/8, W/8) float32; to be called without gradients."""
        import torch

        model, branches = self.loaded
        text, pooled = model.condition([order.edit.instruction for order in batch], self.guidance_scale).texts[0]
        pixels = pixels_of(batch)
        source = model.encode(self._smaller(pixels))
        shape = (len(batch), source.shape[1], pixels.shape[2] // 8, pixels.shape[3] // 8)
        z = noise_like(source.new_empty(shape), generators(batch))
        scales = [self.guidance_scale * (1 + STRONGER * order.edit.strength) for order in batch]
        velocity = self._velocity(branches, text, pooled, source, torch.tensor(scales, device=z.device), z)
        return sample(z, model.sigmas(self.num_inference_steps, z), velocity)

    def _velocity(
        self, branches: Branches, text: Any, pooled: Any, source: Any, scales: Any, z: Any
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """V(z, t) for these texts and sources: all that stays the same over the steps is worked out here."""
        from u2s_datasets.parts.editors.flux_branches import Branch, embedded

        base, adapted = branches.base, branches.adapted
        if hook := getattr(base, "_hf_hook", None):
            hook.pre_forward(base)  # offloaded, it comes to the GPU when it is called as a whole, which it never is
        words, word_places = base.context_embedder(text), base.pos_embed(text.new_zeros(text.shape[1], 3))
        image_places = base.pos_embed(places(z.float()))
        still = embedded(base, z.new_zeros(len(z)), scales.new_ones(len(z)), pooled)
        tokens = adapted.x_embedder(packed(source))
        given = Branch("source", tokens, still, base.pos_embed(self._source_places(source)))
        known = branches.keys_values(given) if self.independent_condition else ()
        at_each_step = None if known else given

        def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            time = embedded(base, (1000 * t).to(text.dtype).expand(len(z)) / 1000, scales, pooled)
            image = Branch("image", base.x_embedder(packed(z.to(text.dtype))), time, image_places)
            return unpacked(branches.velocity(Branch("text", words, time, word_places), image, at_each_step, known), z)

        return velocity

    def _smaller(self, pixels: torch.Tensor) -> torch.Tensor:
        """The source at 1 / `position_scale` of its size, extended to whole tokens."""
        from torch.nn import functional

        cell = self.multiple * self.position_scale
        right, bottom = -pixels.shape[3] % cell, -pixels.shape[2] % cell
        whole = functional.pad(pixels, (0, right, 0, bottom), mode="replicate")
        return functional.avg_pool2d(whole, self.position_scale)

    def _source_places(self, source: torch.Tensor) -> torch.Tensor:
        """(tokens, 3): 0, row and column of the source's tokens on the image's grid, each in the middle of its cell."""
        at = places(source.float())
        at[:, 1:] += at.new_tensor(self.position_delta)
        at[:, 1:] = at[:, 1:] * self.position_scale + (self.position_scale - 1) / 2
        return at

    def _lora(self) -> Path:
        """The LoRA's file."""
        if not self.lora:
            raise MissingWeights(
                "lora='': give the LoRA that OminiControl was trained to, a safetensors file, its folder or a Hub id; "
                "the paper's is not public"
            )
        if Path(self.lora).is_file():
            return Path(self.lora)
        folder = checkpoints.folder(self.lora, self.lora_revision)
        files = [folder / self.lora_file] if self.lora_file else sorted(folder.glob("*.safetensors"))
        if len(files) != 1 or not files[0].is_file():
            names = ", ".join(path.name for path in files) or "none"
            raise SetupError(f"lora={self.lora!r}: say by lora_file which safetensors file is meant; found: {names}")
        return files[0]


def sample(
    z: torch.Tensor, sigmas: torch.Tensor, velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The latents at the end of Euler's steps along the velocities, float32 of z's shape.

    Args:
        z: (N, ...) standard normal noise.
        sigmas: (T + 1,) falling noise levels in [0, 1], the last one 0.
        velocity: of latents at a noise level.
    """
    z = z.float()
    for t, t_next in itertools.pairwise(sigmas):
        z = z + (t_next - t) * velocity(z, t).float()
    return z
