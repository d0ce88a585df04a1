"""FreePrompt: a new picture from a target prompt on the layout of the old one, without training.

The photo is inverted by DDIM to noise; the target is then sampled from that noise while, in the first steps, the
self-attention maps of the coarser layers (see `source_maps`) are those of the inverted photo.

Source: Liu et al., "Towards Understanding Cross and Self-Attention in Stable Diffusion for Text-Guided Image
Editing", CVPR 2024; public implementation alibaba/EasyNLP, diffusion/FreePromptEditing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.parts.editors import unet as unets
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, Once, pixels_of
from u2s_datasets.parts.editors.source_maps import SourceMaps
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

WEAKER = 0.1
"""By how much each further attempt shortens the share of the steps with the source's maps."""


@dataclass(frozen=True)
class FreePrompt(DiffusionEditor):
    """Edits towards `Edit.target_prompt` on the layout of the source, by Stable Diffusion 1.x or 2.x.

    It draws no noise: `Edit.seed` changes nothing. A further attempt (`Edit.strength`) takes `self_replace_ratio`
    down by 0.1 each, so that less of the source's layout holds.

    With an empty source prompt, the paper's choice, 50 steps at a ratio of 0.4 need 170 rows of the UNet per image
    where the reference computes 300, for the same result; with another source prompt 220.

    Args:
        model: weights of Stable Diffusion 1.5 under the CreativeML Open RAIL-M licence, by default.
        self_replace_ratio: share of the steps, from the first on, that use the source's self-attention maps; [0, 1].
        num_inference_steps: steps of the inversion and of the sampling each, 1 to 999.
        guidance_scale: of classifier-free guidance, in the inversion too; 1 or more.
        Others: see `DiffusionEditor`.

    Raises:
        SetupError: a value is not allowed, or the checkpoint does not predict noise.
    """

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    revision: str | None = WEIGHTS["stable-diffusion-v1-5/stable-diffusion-v1-5"].revision
    self_replace_ratio: float = 0.4
    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    multiple: ClassVar[int] = 8
    family_pixels: ClassVar[int] = 512 * 512
    needs: ClassVar[tuple[str, ...]] = ("target_prompt",)
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)

    def check_values(self) -> None:
        """As every diffusion editor's."""
        super().check_values()
        checks.check_float("self_replace_ratio", self.self_replace_ratio)
        if not 0 <= self.self_replace_ratio <= 1:
            raise SetupError(f"self_replace_ratio={self.self_replace_ratio!r}: give a share of the steps, 0 to 1")
        checks.check_int("num_inference_steps", self.num_inference_steps, 1, TRAINED_STEPS - 1)
        checks.check_float("guidance_scale", self.guidance_scale, 1)

    def pipeline(self, folder: str, **options: Any) -> Any:
        """Stable Diffusion without its safety checker: `Anonymize` inspects every output anew."""
        from diffusers import StableDiffusionPipeline

        bare = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        made = StableDiffusionPipeline.from_pretrained(folder, **bare, **options)
        predicts = made.scheduler.config.get("prediction_type", "epsilon")
        if predicts != "epsilon":
            raise SetupError(f"this model predicts {predicts!r}; FreePrompt needs one that predicts noise ('epsilon')")
        return made

    def around(self, pipeline: Any) -> Loaded:
        """The pipeline, its texts, and the switch of its attention maps."""
        return Loaded(pipeline, unets.text_cache(pipeline), SourceMaps.of(pipeline.unet))

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        return unets.by_strength(batch, self._run)

    def _run(self, batch: Sequence[Prepared], strength: int) -> torch.Tensor:
        import torch

        pipeline, texts, maps = self.loaded.pipeline, self.loaded.texts, self.loaded.maps
        with torch.no_grad():
            empty, source, target = (
                torch.cat(texts([text.strip() for text in column]))
                for column in zip(*(("", o.edit.source_prompt, o.edit.target_prompt) for o in batch), strict=True)
            )
            steps, scale = self.num_inference_steps, self.guidance_scale
            replaced = int(steps * max(self.self_replace_ratio - WEAKER * strength, 0))
            path = invert(pipeline.unet, encoded(pipeline, pixels_of(batch)), empty, source, steps, scale)
            latents = sample(pipeline.unet, maps, path, empty, source, target, replaced, scale)
            pictures = decoded(pipeline, latents)
        pipeline.maybe_free_model_hooks()
        return pictures


@dataclass(frozen=True)
class Loaded:
    """What `FreePrompt.loaded` is."""

    pipeline: Any
    texts: Once
    maps: SourceMaps


def encoded(pipeline: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of pictures: (N, 3, H, W) in [-1, 1] to (N, 4, H/8, W/8) float32, the mean of the VAE's posterior."""
    vae = pipeline.vae
    pixels = pixels.to(pipeline._execution_device, vae.dtype)
    return vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor


def decoded(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pictures of latents: (N, 4, H/8, W/8) to (N, 3, H, W) in [0, 1]."""
    vae = pipeline.vae
    return (vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample / 2 + 0.5).clamp(0, 1)


TRAINED_STEPS = 1000
"""Steps of the noise schedule that Stable Diffusion was trained on."""


def noise_levels(steps: int) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """(timestep, share of signal one step below it, share of signal at it) per step, the least noisy first."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=TRAINED_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    shares, stride = scheduler.alphas_cumprod.double(), TRAINED_STEPS // steps
    times = [int(time) for time in reversed(scheduler.timesteps)]
    lowest = shares[0]  # "set_alpha_to_one" off: below the first step lies the least noise of the training
    return [(time, shares[time - stride] if time > stride else lowest, shares[time]) for time in times]


def ddim(latents: torch.Tensor, noise: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Latents moved from one share of signal to another along the predicted noise, up or down."""
    clean = (latents - (1 - start) ** 0.5 * noise) / start**0.5
    return end**0.5 * clean + (1 - end) ** 0.5 * noise


def predict(unet: Any, latents: torch.Tensor, time: int, texts: torch.Tensor) -> torch.Tensor:
    """The UNet's noise for rows of latents and texts, in the dtype of the latents whatever its own."""
    return unet(latents.to(unet.dtype), time, encoder_hidden_states=texts, return_dict=False)[0].to(latents.dtype)


def invert(
    unet: Any, latents: torch.Tensor, empty: torch.Tensor, source: torch.Tensor, steps: int, guidance_scale: float
) -> list[torch.Tensor]:
    """DDIM inversion under guidance: the latents at every level of noise, `steps` + 1 of them, the clean first.

    Where the source text is the empty one, its guided noise is the unconditional noise: one row instead of two.

    Args:
        latents: (N, 4, h, w) of the pictures.
        empty, source: (N, 77, channels) embeddings of "" and of the source prompts.
    """
    import torch

    worded = torch.nonzero((source != empty).flatten(1).any(1)).flatten()
    texts, path = torch.cat([empty, source[worded]]), [latents]
    for time, below, at in noise_levels(steps):
        noise = predict(unet, torch.cat([latents, latents[worded]]), time, texts)
        noise, conditional = noise[: len(latents)], noise[len(latents) :]
        noise[worded] = noise[worded] + guidance_scale * (conditional - noise[worded])
        latents = ddim(latents, noise, below, at)
        path.append(latents)
    return path


def sample(
    unet: Any,
    maps: SourceMaps,
    path: Sequence[torch.Tensor],
    empty: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    replaced: int,
    guidance_scale: float,
) -> torch.Tensor:
    """The edited latents (N, 4, h, w).

    The source goes its inverted path whatever is predicted for it, so its row serves only for its maps: three rows a
    step while maps are replaced, two afterwards.

    Args:
        path: from `invert`.
        empty, source, target: (N, 77, channels) embeddings.
        replaced: steps, from the first on, in which the target's conditional row has the source's maps.
    """
    import torch

    latents = path[-1]
    for step, (time, below, at) in enumerate(reversed(noise_levels(len(path) - 1))):
        if step < replaced:
            with maps.of_the_first(len(latents)):
                rows = torch.cat([path[-1 - step], latents, latents])
                noise = predict(unet, rows, time, torch.cat([source, empty, target]))[len(latents) :]
        else:
            noise = predict(unet, torch.cat([latents, latents]), time, torch.cat([empty, target]))
        unconditional, conditional = noise.chunk(2)
        latents = ddim(latents, unconditional + guidance_scale * (conditional - unconditional), at, below)
    return latents
