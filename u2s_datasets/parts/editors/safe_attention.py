"""InstructPix2Pix with the paper's safe cross-attention: the public caption holds what may stay, the instruction says
what must change.

The module and its weights are in `safe_modules`; the denoising loop is diffusers' own.

Source: the Unsafe2Safe paper, section 3.2.2, S2.2 and figure S2.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, Once, generators
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

FILE = "safe_attention.safetensors"

LOOSER = 0.25
"""By how much each further attempt lowers the image guidance, so that the picture may move away from the photo."""

FORMS = ("concatenated", "fused")


@dataclass(frozen=True)
class SafeInstructPix2Pix(DiffusionEditor):
    """Edits by `Edit.instruction` and `Edit.public_caption` together.

    Built from any InstructPix2Pix checkpoint: where neither `weights` nor the model's folder has a
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
        SetupError: a value is not allowed, or the weights are not of this model.
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

    multiple: ClassVar[int] = 8
    family_pixels: ClassVar[int] = 512 * 512
    needs: ClassVar[tuple[str, ...]] = ("instruction", "public_caption")
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionInstructPix2PixPipeline",)
    shown: ClassVar[tuple[str, ...]] = (*DiffusionEditor.shown, "weights_revision", "form")

    def check_values(self) -> None:
        """As every diffusion editor's."""
        super().check_values()
        if self.form not in FORMS:
            raise SetupError(f"form={self.form!r}: choose one of {', '.join(FORMS)}")
        checks.check_int("num_inference_steps", self.num_inference_steps)
        checks.check_float("auxiliary_scale", self.auxiliary_scale)
        checks.check_float("guidance_scale", self.guidance_scale, 1, above=True)  # at 1 there is no guidance at all
        checks.check_float("image_guidance_scale", self.image_guidance_scale, 1)

    def check(self) -> None:
        """As every diffusion editor's, and the module's own weights."""
        super().check()
        self._weights(checkpoints.folder(self.model, self.revision))

    def __getstate__(self) -> dict[str, Any]:
        own = checkpoints.fingerprint(self.weights, self.weights_revision) if self.weights else ""
        return super().__getstate__() | {"safe_weights": own}

    def pipeline(self, folder: str, **options: Any) -> Any:
        """diffusers' InstructPix2Pix with the module in its UNet and its authors' sampler, ancestral Euler steps."""
        from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

        from u2s_datasets.parts.editors import safe_modules

        made = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, **options)
        made.scheduler = EulerAncestralDiscreteScheduler.from_config(made.scheduler.config)
        safe_modules.install(made.unet, self.form, self.auxiliary_scale)
        path = self._weights(Path(folder))
        if path is None:
            log.warning("no trained weights of safe attention: it starts as copies of the cross-attention")
            return made
        base = safe_modules.read(made.unet, path, self.form).get("base_model", "")
        if base and base != self._about()["base_model"]:
            log.warning("the weights of safe attention were trained on %s", base)
        return made

    def around(self, pipeline: Any) -> Loaded:
        """The pipeline and its texts."""
        return Loaded(pipeline, unets.text_cache(pipeline))

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        return unets.by_strength(batch, self._run)

    def _run(self, batch: Sequence[Prepared], strength: int) -> torch.Tensor:
        import torch

        pipeline, texts = self.loaded.pipeline, self.loaded.texts
        public, edit, empty = (
            torch.cat(texts([text.strip() for text in column]))
            for column in zip(*((o.edit.public_caption, o.edit.instruction, "") for o in batch), strict=True)
        )
        made = pipeline(
            image=[order.image for order in batch],
            prompt_embeds=torch.cat([public, edit], dim=1),
            negative_prompt_embeds=torch.cat([empty, empty], dim=1),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            image_guidance_scale=max(self.image_guidance_scale - LOOSER * strength, 1.0),
            generator=generators(batch),
            output_type="pt",
        )
        unsafe = made.nsfw_content_detected or [False] * len(batch)
        made.images[torch.tensor(unsafe, device=made.images.device)] = 0
        return made.images

    def save(self, folder: str | Path) -> Path:
        """Write the module's weights to `safe_attention.safetensors` in a folder, which `weights` then takes.

        The file names its form and, where the base model has a Hub id, that and its revision.
        """
        from u2s_datasets.parts.editors import safe_modules

        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        safe_modules.write(self.loaded.pipeline.unet, path, self.form, **self._about())
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
            SetupError: there is no such layer, or `form` is not "concatenated": the fused form's two maps each sum
                to 1, so that there are no shares.
        """
        from u2s_datasets.parts.editors import safe_modules

        found = list(safe_modules.modules(self.loaded.pipeline.unet).values())
        if self.form != "concatenated":
            raise SetupError(f"form={self.form!r} has no shares per text; use form='concatenated'")
        if not 1 <= layer <= len(found):
            raise SetupError(f"layer={layer!r}: this model has the layers 1 to {len(found)}")
        order = self._prepared(edit)
        seen: list[tuple[torch.Tensor, ...]] = []  # of row 0, the guided one of the three
        found[layer - 1].recorder = lambda *maps: seen.append(tuple(of[0].sum(-1).mean(0).cpu() for of in maps))
        try:
            self._run([order], max(edit.strength, 0))
        finally:
            found[layer - 1].recorder = None
        means = (sum(steps) / len(steps) for steps in zip(*seen, strict=True))
        grid = self._grid(order, layer)
        return {name: mean.reshape(grid).numpy() for name, mean in zip(("public", "edit"), means, strict=True)}

    def attention_maps(self, edit: Edit, layer: int = 13) -> dict[str, Image.Image]:
        """`attention_shares` as grey pictures of the image's size, each from its lowest (black) to its highest share,
        as in figure S2."""
        order, shares = self._prepared(edit), self.attention_shares(edit, layer)
        return {name: _picture(share, order) for name, share in shares.items()}

    def _prepared(self, edit: Edit) -> Prepared:
        return batches.prepare(edit, self.multiple, self.max_pixels or self.family_pixels)

    def _grid(self, order: Prepared, layer: int) -> tuple[int, int]:
        """(height, width) of a layer's grid; every halving rounds up."""
        pipeline = self.loaded.pipeline
        cell = pipeline.vae_scale_factor * unets.layers(pipeline.unet, "attn2")[layer - 1].downsampling
        return -(-order.image.height // cell), -(-order.image.width // cell)

    def _weights(self, model: Path) -> Path | None:
        """The file of the module's weights; None where the module is to start as copies."""
        if self.weights is None:
            return model / FILE if (model / FILE).is_file() else None
        path = checkpoints.folder(self.weights, self.weights_revision) / FILE
        if not path.is_file():
            raise SetupError(f"weights={self.weights!r} holds no {FILE}; give a folder that `save` wrote, or None")
        return path

    def _about(self) -> dict[str, str]:
        public = checkpoints.public_id(self.model)
        return {"base_model": public.get("model", ""), "base_revision": (public and self.revision) or ""}


@dataclass(frozen=True)
class Loaded:
    """What `SafeInstructPix2Pix.loaded` is."""

    pipeline: Any
    texts: Once


def _picture(share: np.ndarray, order: Prepared) -> Image.Image:
    low, high = float(share.min()), float(share.max())
    grey = Image.fromarray(np.uint8(np.rint((share - low) / max(high - low, 1e-6) * 255)))
    grey = images.unpad(grey.resize(order.image.size, Image.Resampling.BICUBIC), order.size)
    return grey.resize(order.edit.image.size, Image.Resampling.BICUBIC)
