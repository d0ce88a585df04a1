"""OminiControl on FLUX: the source image's tokens are a third branch beside the text's and the noise's.

Tan et al., "OminiControl: Minimal and Universal Control for Diffusion Transformer", arXiv 2411.15098. All branches
pass the same blocks; only the source's has a LoRA, and it stands at timestep 0 with guidance 1.
"""

from __future__ import annotations

import itertools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import checkpoints, checks
from u2s_datasets.parts.editors.diffusion import Batch, DiffusionEditor, draw_noise, make_generators, stack_pixels
from u2s_datasets.parts.editors.flow_models import Flux, pack, token_positions, unpack
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

    from u2s_datasets.parts.editors.flux_branches import Branches

log = logging.getLogger(__name__)

STRONGER = 0.5  # by what share of itself the guidance scale grows at each further attempt

# The linear layers that the source branch passes.
_SOURCE_LAYER = re.compile(
    r"x_embedder|transformer_blocks\.\d+\.(norm1\.linear|attn\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(norm\.linear|proj_mlp|proj_out|attn\.to_(q|k|v))"
)


@dataclass(frozen=True)
class OminiControl(DiffusionEditor):
    """Rewrites an image by `Edit.instruction`, with FLUX and a LoRA that was trained for that.

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
            encoded at that many times fewer pixels a side, for weights trained that way.
        independent_condition: for weights trained that way: the source attends to itself alone, and is computed
            once per image instead of at every step.

    Raises:
        SetupError: an invalid value, a file without a LoRA, or a LoRA of another model.

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
    limits = DiffusionEditor.limits | {
        "num_inference_steps": checks.check_int,
        "max_sequence_length": lambda name, value: checks.check_int(name, value, 1, 512),
        "position_scale": checks.check_int,
        "lora_scale": checks.check_float,
        "guidance_scale": checks.check_float,
    }
    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "safetensors")

    def check(self) -> None:
        """As `DiffusionEditor.check`, and the LoRA's file; loads no weights."""
        self.check_values()
        self._lora_path()
        super().check()

    def config(self) -> dict[str, Any]:
        """The constructor arguments with the Hub ids of model and LoRA; a local file or folder is not shown."""
        public = checkpoints.public_id(self.lora)
        return super().config() | ({"lora": public["model"]} if public else {})

    def __getstate__(self) -> dict[str, Any]:
        try:
            file = self._lora_path().stat()
        except SetupError:
            return super().__getstate__()
        return super().__getstate__() | {"lora": (file.st_size, file.st_mtime_ns)}

    def wrap_pipeline(self, pipeline: Any) -> tuple[Flux, Branches]:
        """The model, and its transformer without and with the LoRA."""
        import torch

        from u2s_datasets.parts.editors.flux_branches import Branches, apply_lora, read_lora

        device, changes = checkpoints.device(self.device), read_lora(self._lora_path())
        unused = sorted(name for name in changes if not _SOURCE_LAYER.fullmatch(name))
        if unused:
            log.warning("the LoRA also has %d layers that the source does not pass, as %s", len(unused), unused[0])
        used = {name: change for name, change in changes.items() if name not in unused}
        unknown = sorted(used.keys() - {name for name, _ in pipeline.transformer.named_modules()})
        if unknown or not used:
            what = ", ".join(unknown[:3]) or "nothing for the source"
            raise SetupError(f"lora={self.lora!r} is of another model than {self.model!r}, it has {what}; give its own")
        branches = Branches(pipeline.transformer, apply_lora(pipeline.transformer, used, self.lora_scale, device))
        if self.compile:  # `to_device` compiles diffusers' own forward pass, which is not used here
            object.__setattr__(branches, "run_blocks", torch.compile(branches.run_blocks))
        return Flux(pipeline, device, self.max_sequence_length), branches

    def run_pass(self, batch: Batch) -> torch.Tensor:
        """As `run`, for orders that share one `Edit.strength`; called without gradients."""
        return self.loaded[0].decode(self.latents(batch))

    def latents(self, batch: Batch) -> torch.Tensor:
        """The edited latents of a batch of one size, (N, C, H/8, W/8) float32; called without gradients."""
        import torch

        from u2s_datasets.parts.editors.flux_branches import Branch, embed_time

        model, branches = self.loaded
        base, adapted = branches.base, branches.adapted
        prompt, pooled = model.condition([order.edit.instruction for order in batch], self.guidance_scale).texts[0]
        pixels = stack_pixels(batch)
        source = model.encode(self._downscale(pixels))
        shape = (len(batch), source.shape[1], pixels.shape[2] // 8, pixels.shape[3] // 8)
        z = draw_noise(source.new_empty(shape), make_generators(batch)).float()
        guidance = torch.tensor(
            [self.guidance_scale * (1 + STRONGER * order.edit.strength) for order in batch], device=z.device
        )
        if hook := getattr(base, "_hf_hook", None):
            hook.pre_forward(base)  # offloaded, it comes to the GPU when it is called as a whole, which it never is
        words, word_positions = base.context_embedder(prompt), base.pos_embed(prompt.new_zeros(prompt.shape[1], 3))
        image_positions = base.pos_embed(token_positions(z))
        still = embed_time(base, torch.zeros_like(guidance), torch.ones_like(guidance), pooled)
        source_positions = base.pos_embed(self._source_positions(source))
        given = Branch("source", adapted.x_embedder(pack(source)), still, source_positions)
        cached = branches.keys_values(given) if self.independent_condition else ()
        for t, t_next in itertools.pairwise(model.sigmas(self.num_inference_steps, z)):  # Euler's method
            time = embed_time(base, (1000 * t).to(prompt.dtype).expand(len(z)) / 1000, guidance, pooled)
            text = Branch("text", words, time, word_positions)
            image = Branch("image", base.x_embedder(pack(z.to(prompt.dtype))), time, image_positions)
            velocity = branches.velocity(text, image, None if cached else given, cached)
            z = z + (t_next - t) * unpack(velocity, z).float()
        return z

    def _downscale(self, pixels: torch.Tensor) -> torch.Tensor:
        """The source at 1 / `position_scale` of its size, extended to whole tokens."""
        from torch.nn import functional

        cell = self.multiple * self.position_scale
        right, bottom = -pixels.shape[3] % cell, -pixels.shape[2] % cell
        extended = functional.pad(pixels, (0, right, 0, bottom), mode="replicate")
        return functional.avg_pool2d(extended, self.position_scale)

    def _source_positions(self, source: torch.Tensor) -> torch.Tensor:
        """(tokens, 3): 0, row and column of the source's tokens on the image's grid, each in the middle of its cell."""
        at = token_positions(source.float())
        at[:, 1:] += at.new_tensor(self.position_delta)
        at[:, 1:] = at[:, 1:] * self.position_scale + (self.position_scale - 1) / 2
        return at

    def _lora_path(self) -> Path:
        if not self.lora:
            raise MissingWeights(
                "lora='': give the LoRA that OminiControl was trained to, a safetensors file, its folder or a Hub id; "
                "the paper's is not public"
            )
        if Path(self.lora).is_file():
            return Path(self.lora)
        folder = checkpoints.folder(self.lora, self.lora_revision)
        found = sorted(folder.glob("*.safetensors"))
        files = [folder / self.lora_file] if self.lora_file else found
        if len(files) != 1 or not files[0].is_file():
            names = ", ".join(path.name for path in found) or "no safetensors file"
            raise SetupError(f"lora={self.lora!r} holds {names}; name one file by lora_file")
        return files[0]
