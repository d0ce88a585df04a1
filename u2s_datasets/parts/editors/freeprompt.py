"""FreePrompt: a new image from a target prompt on the layout of the old one, without training.

The photo is inverted by DDIM to noise; the target is then sampled from that noise while, in the first steps, the
coarser self-attention layers use the attention maps of the inverted photo.

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
from u2s_datasets.parts.editors.diffusion import Batch, DiffusionEditor, TextPipeline, stack_pixels
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

WEAKER = 0.1  # by how much each further attempt shortens the share of the steps with the source's maps
TRAINED_STEPS = 1000  # of the noise schedule that Stable Diffusion was trained on
# Layers whose grid is coarser than the latents by at least this factor take the source's maps. At 512 px these are the
# layers of at most 32² tokens, as in the reference; told by level, the method is the same at other sizes.
COARSE = 2


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
        SetupError: an invalid value, or a checkpoint that does not predict noise.
    """

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    revision: str | None = WEIGHTS["stable-diffusion-v1-5/stable-diffusion-v1-5"].revision
    self_replace_ratio: float = 0.4
    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    family_pixels: ClassVar[int] = 512 * 512
    needs: ClassVar[tuple[str, ...]] = ("target_prompt",)
    limits = DiffusionEditor.limits | {
        "self_replace_ratio": checks.check_float,
        "num_inference_steps": lambda name, value: checks.check_int(name, value, 1, TRAINED_STEPS - 1),
        "guidance_scale": lambda name, value: checks.check_float(name, value, 1),
    }
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)

    def check_values(self) -> None:
        """Raise `SetupError` for a value that works with no checkpoint."""
        super().check_values()
        if not 0 <= self.self_replace_ratio <= 1:
            raise SetupError(
                f"invalid self_replace_ratio={self.self_replace_ratio!r}; expected a share of the steps from 0 to 1"
            )

    def pipeline(self, folder: str, **options: Any) -> Any:
        """Stable Diffusion without its safety checker: `Anonymize` inspects every output anew."""
        made = super().pipeline(
            folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **options
        )
        predicts = made.scheduler.config.get("prediction_type", "epsilon")
        if predicts != "epsilon":
            raise SetupError(f"unsupported model={self.model!r}: it predicts {predicts!r}; expected 'epsilon' (noise)")
        return made

    def wrap_pipeline(self, pipeline: Any) -> Loaded:
        """The pipeline, its texts, and the switch of its attention maps."""
        return Loaded(pipeline, unets.clip_embeddings(pipeline), SourceMaps.install(pipeline.unet))

    def run_pass(self, batch: Batch) -> torch.Tensor:
        """As `run`, for orders that share one `Edit.strength`; called without gradients."""
        pipeline, steps, scale = self.loaded.pipeline, self.num_inference_steps, self.guidance_scale
        empty, source, target = unets.stack_embeddings(
            self.loaded.texts,
            [""] * len(batch),
            [order.edit.source_prompt for order in batch],
            [order.edit.target_prompt for order in batch],
        )
        replaced = int(steps * max(self.self_replace_ratio - WEAKER * batch[0].edit.strength, 0))
        path = invert(pipeline.unet, encode(pipeline, stack_pixels(batch)), empty, source, steps, scale)
        latents = sample(pipeline.unet, self.loaded.maps, path, empty, source, target, replaced, scale)
        decoded = decode(pipeline, latents)
        pipeline.maybe_free_model_hooks()
        return decoded


@dataclass(frozen=True)
class Loaded(TextPipeline):
    """What `FreePrompt.loaded` is: also the switch of the UNet's attention maps."""

    maps: SourceMaps


def invert(
    unet: Any, latents: torch.Tensor, empty: torch.Tensor, source: torch.Tensor, steps: int, guidance_scale: float
) -> list[torch.Tensor]:
    """DDIM inversion under guidance: the latents at every noise level, `steps` + 1 of them, the clean ones first.

    For an empty source text the guided noise is the unconditional noise: one row instead of two.

    Args:
        latents: (N, 4, h, w) of the images.
        empty, source: (N, 77, channels) embeddings of "" and of the source prompts.
    """
    import torch

    prompted = torch.nonzero((source != empty).flatten(1).any(1)).flatten()
    texts, path = torch.cat([empty, source[prompted]]), [latents]
    for time, below, at in noise_levels(steps):
        noise = predict_noise(unet, torch.cat([latents, latents[prompted]]), time, texts)
        noise, conditional = noise[: len(latents)], noise[len(latents) :]
        noise[prompted] = noise[prompted] + guidance_scale * (conditional - noise[prompted])
        latents = ddim_step(latents, noise, below, at)
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

    The source follows its inverted path whatever is predicted for it, so its row serves only for its maps: three rows
    a step while maps are replaced, two afterwards.

    Args:
        path: from `invert`.
        empty, source, target: (N, 77, channels) embeddings.
        replaced: steps, from the first on, in which the target's conditional row has the source's maps.
    """
    import torch

    latents = path[-1]
    try:
        for step, (time, below, at) in enumerate(reversed(noise_levels(len(path) - 1))):
            rows, texts = [latents, latents], [empty, target]
            maps.rows = len(latents) if step < replaced else 0
            if maps.rows:
                rows, texts = [path[-1 - step], *rows], [source, *texts]
            noise = predict_noise(unet, torch.cat(rows), time, torch.cat(texts))[maps.rows :]
            unconditional, conditional = noise.chunk(2)
            latents = ddim_step(latents, unconditional + guidance_scale * (conditional - unconditional), at, below)
    finally:
        maps.rows = 0  # a failure halfway would else leave the next inversion with another row's maps
    return latents


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
    # "set_alpha_to_one" off: below the first step lies the least noise of the training, not none.
    return [(time, shares[max(time - stride, 0)], shares[time]) for time in times]


def ddim_step(latents: torch.Tensor, noise: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Latents moved from one share of signal to another along the predicted noise, up or down."""
    clean = (latents - (1 - start) ** 0.5 * noise) / start**0.5
    return end**0.5 * clean + (1 - end) ** 0.5 * noise


def predict_noise(unet: Any, latents: torch.Tensor, time: int, texts: torch.Tensor) -> torch.Tensor:
    """The UNet's noise for rows of latents and texts, in the dtype of the latents whatever its own."""
    return unet(latents.to(unet.dtype), time, encoder_hidden_states=texts, return_dict=False)[0].to(latents.dtype)


def encode(pipeline: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents of images: (N, 3, H, W) in [-1, 1] to (N, 4, H/8, W/8) float32, the mode of the VAE's posterior."""
    vae = pipeline.vae
    pixels = pixels.to(pipeline._execution_device, vae.dtype)
    return vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor


def decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Images of latents: (N, 4, H/8, W/8) to (N, 3, H, W) in [0, 1]."""
    vae = pipeline.vae
    return (vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample / 2 + 0.5).clamp(0, 1)


@dataclass
class SourceMaps:
    """Whether the coarse self-attention layers of a UNet give the last rows of a batch the maps of the first ones.

    Args:
        rows: how many rows at each end; 0 leaves the layers to their own processors.
    """

    rows: int = 0

    @classmethod
    def install(cls, unet: Any) -> SourceMaps:
        """Put the processors into the layers of a UNet that are coarse enough."""
        maps = cls()
        for layer in unets.attention_layers(unet, "attn1"):
            if layer.downsampling >= COARSE:
                layer.attention.set_processor(MapsProcessor(layer.attention.processor, maps))
        return maps


@dataclass(frozen=True)
class MapsProcessor:
    """Self-attention in which the last rows attend with the maps of the first.

    A map is softmax(q·kᵀ/√d), so taking another row's map is taking its queries and keys: the same result, with
    no map in memory, and the replaced rows' own queries and keys are never computed.
    """

    own: Any
    maps: SourceMaps

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        import torch

        rows = self.maps.rows
        if not rows:
            return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        others = hidden_states[:-rows]
        query, key = (unets.split_heads(project(others), attn.heads) for project in (attn.to_q, attn.to_k))
        query, key = torch.cat([query, query[:rows]]), torch.cat([key, key[:rows]])
        value = unets.split_heads(attn.to_v(hidden_states), attn.heads)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        return attn.to_out[0](unets.merge_heads(attended))
