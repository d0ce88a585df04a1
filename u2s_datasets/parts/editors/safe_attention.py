"""InstructPix2Pix with the paper's safe cross-attention: the public caption holds what may stay, the instruction says
what must change.

The module and its weights are in `safe_modules`; the denoising loop is diffusers' own.

Source: the Unsafe2Safe paper, section 3.2.2, S2.2 and figure S2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Edit, checkpoints, checks
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors import unet as unets
from u2s_datasets.parts.editors.diffusion import Batch, DiffusionEditor, TextPipeline, make_generators
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FILE = "safe_attention.safetensors"

LOOSER = 0.25  # by how much each further attempt lowers the image guidance, so that the image may leave the photo


@dataclass(frozen=True)
class SafeInstructPix2Pix(DiffusionEditor):
    """Edits by `Edit.instruction` and `Edit.public_caption` together.

    Built from any InstructPix2Pix checkpoint: if neither `weights` nor the model's folder has a
    `safe_attention.safetensors`, the module starts as copies of the cross-attentions. Untrained, it is a starting
    point for training rather than an editor of its own: it adds a second text signal of the same size to every block
    (`auxiliary_scale` says how much of it; 0 is the checkpoint without the module, exactly).

    A further attempt (`Edit.strength`) lowers `image_guidance_scale` by 0.25, to 1 at the least. An image that the
    checkpoint's safety checker blackens has failed.

    Args:
        model: weights of InstructPix2Pix under the MIT licence, by default. The paper starts from MagicBrush's
            (CC-BY-4.0), which diffusers has as "vinesmsuic/magicbrush-jul7".
        weights: a folder or Hub id with the module's weights; None looks into the model's folder.
        weights_revision: commit of that Hub repository.
        form: "concatenated", the paper's, or "fused", the authors' later one; see `safe_modules`.
        auxiliary_scale: weight of the auxiliary attention.
        num_inference_steps: 1 or more.
        guidance_scale: of both texts, which are dropped together; above 1.
        image_guidance_scale: of the photo; 1 or more.
        Others: see `DiffusionEditor`.

    Raises:
        SetupError: an invalid value, or weights of another model.
    """

    model: str = "timbrooks/instruct-pix2pix"
    revision: str | None = WEIGHTS["timbrooks/instruct-pix2pix"].revision
    weights: str | None = None
    weights_revision: str | None = None
    form: str = "concatenated"
    auxiliary_scale: float = 1.0
    num_inference_steps: int = 100
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5

    family_pixels: ClassVar[int] = 512 * 512
    needs: ClassVar[tuple[str, ...]] = ("instruction", "public_caption")
    choices = DiffusionEditor.choices | {"form": ("concatenated", "fused")}
    limits = DiffusionEditor.limits | {
        "num_inference_steps": checks.check_int,
        "auxiliary_scale": checks.check_float,
        "guidance_scale": lambda name, value: checks.check_float(name, value, 1, above=True),  # 1 is no guidance at all
        "image_guidance_scale": lambda name, value: checks.check_float(name, value, 1),
    }
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionInstructPix2PixPipeline",)
    shown: ClassVar[tuple[str, ...]] = (*DiffusionEditor.shown, "weights_revision", "form")

    def check(self) -> None:
        """As `DiffusionEditor.check`, and the module's own weights."""
        super().check()
        self._weights_path(checkpoints.folder(self.model, self.revision))

    def __getstate__(self) -> dict[str, Any]:
        weights = checkpoints.fingerprint(self.weights, self.weights_revision) if self.weights else ""
        return super().__getstate__() | {"safe_weights": weights}

    def pipeline(self, folder: str, **options: Any) -> Any:
        """diffusers' InstructPix2Pix with the module in its UNet and its authors' sampler, ancestral Euler steps."""
        from diffusers import EulerAncestralDiscreteScheduler

        from u2s_datasets.parts.editors import safe_modules

        made = super().pipeline(folder, **options)
        made.scheduler = EulerAncestralDiscreteScheduler.from_config(made.scheduler.config)
        safe_modules.install(made.unet, self.form, self.auxiliary_scale)
        path = self._weights_path(Path(folder))
        if path is None:
            log.warning("no trained weights of safe attention: it starts as copies of the cross-attention")
            return made
        base = safe_modules.load_weights(made.unet, path, self.form).get("base_model", "")
        if base and base != self._base_model()["base_model"]:
            log.warning("the weights of safe attention were trained on %s", base)
        return made

    def wrap_pipeline(self, pipeline: Any) -> TextPipeline:
        """The pipeline and its texts."""
        return TextPipeline(pipeline, unets.clip_embeddings(pipeline))

    def run_pass(self, batch: Batch) -> torch.Tensor:
        """As `run`, for orders that share one `Edit.strength`; called without gradients."""
        import torch

        public, edit, empty = unets.stack_embeddings(
            self.loaded.texts,
            [order.edit.public_caption for order in batch],
            [order.edit.instruction for order in batch],
            [""] * len(batch),
        )
        made = self.loaded.pipeline(
            image=[order.image for order in batch],
            prompt_embeds=torch.cat([public, edit], dim=1),
            negative_prompt_embeds=torch.cat([empty, empty], dim=1),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            image_guidance_scale=max(self.image_guidance_scale - LOOSER * batch[0].edit.strength, 1.0),
            generator=make_generators(batch),
            output_type="pt",
        )
        unsafe = made.nsfw_content_detected or [False] * len(batch)
        made.images[torch.tensor(unsafe, device=made.images.device)] = 0  # black, which fails its row
        return made.images

    def save(self, folder: str | Path) -> Path:
        """Write the module's weights to `safe_attention.safetensors` in a folder, which `weights` then takes.

        The file names its form and, if the base model has a Hub id, that and its revision.
        """
        from u2s_datasets.parts.editors import safe_modules

        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        safe_modules.save_weights(self.loaded.pipeline.unet, path, self.form, **self._base_model())
        return path

    def attention_shares(self, edit: Edit, layer: int = 13) -> dict[str, np.ndarray]:
        """Where the auxiliary attention of one layer looks at the public caption and where at the instruction.

        Args:
            edit: one order, which is run for it.
            layer: counted from 1 in the order of the forward pass; the paper shows the 13th of 16.

        Returns:
            "public" and "edit": (h, w) float32 in [0, 1], the share of a place's attention that falls on the tokens
            of the text, as a mean over heads and steps of the guided row. Together they are 1 everywhere.

        Raises:
            SetupError: no such layer, or `form` is not "concatenated": the fused form's two maps each sum to 1, so
                that there are no shares.
        """
        pipeline = self.loaded.pipeline
        layers = unets.attention_layers(pipeline.unet, "attn2")
        if self.form != "concatenated":
            raise SetupError(f"form={self.form!r} has no shares per text; use form='concatenated'")
        if not 1 <= layer <= len(layers):
            raise SetupError(f"unknown layer={layer!r}; this model has the layers 1 to {len(layers)}")
        module = layers[layer - 1].attention.processor
        order = batches.prepare(edit, *self.working_size())
        steps: list[tuple[torch.Tensor, ...]] = []  # of row 0, the guided one of the three
        module.recorder = lambda *maps: steps.append(tuple(m[0].sum(-1).mean(0).cpu() for m in maps))
        try:
            self.run([order])
        finally:
            module.recorder = None
        cell = pipeline.vae_scale_factor * layers[layer - 1].downsampling
        grid = -(-order.image.height // cell), -(-order.image.width // cell)  # every halving rounds up
        public, instruction = (sum(maps) / len(steps) for maps in zip(*steps, strict=True))
        return {"public": public.reshape(grid).numpy(), "edit": instruction.reshape(grid).numpy()}

    def attention_maps(self, edit: Edit, layer: int = 13) -> dict[str, Image.Image]:
        """`attention_shares` as grey images of the image's size, each from its lowest (black) to its highest share,
        as in figure S2."""
        order, maps = batches.prepare(edit, *self.working_size()), {}
        for name, share in self.attention_shares(edit, layer).items():
            low, high = float(share.min()), float(share.max())
            grey = Image.fromarray(np.uint8(np.rint((share - low) / max(high - low, 1e-6) * 255)))
            grey = images.unpad(grey.resize(order.image.size, Image.Resampling.BICUBIC), order.size)
            maps[name] = grey.resize(edit.image.size, Image.Resampling.BICUBIC)
        return maps

    def _weights_path(self, model: Path) -> Path | None:
        """The file of the module's weights; None if the module is to start as copies."""
        if self.weights is None:
            return model / FILE if (model / FILE).is_file() else None
        path = checkpoints.folder(self.weights, self.weights_revision) / FILE
        if not path.is_file():
            raise SetupError(f"weights={self.weights!r} holds no {FILE}; give a folder that `save` wrote, or None")
        return path

    def _base_model(self) -> dict[str, str]:
        public = checkpoints.public_id(self.model)
        return {"base_model": public.get("model", ""), "base_revision": (public and self.revision) or ""}
