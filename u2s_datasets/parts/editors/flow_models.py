"""SD3 and FLUX as velocity fields: images to latents and back, texts to conditions, noise levels, V(z, t | text).

Latents are (N, C, H/8, W/8) for both, before FLUX packs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from u2s_datasets.parts.editors.diffusion import TextEmbeddingCache, draw_noise, warn_if_truncated

if TYPE_CHECKING:
    import torch

MAX_TEXTS = 128  # kept in the CPU's memory: the embeddings of one take 2.7 MB for SD3 in float16, 4.2 MB for FLUX


@dataclass(frozen=True)
class Condition:
    """What steers the velocities of N rows.

    Args:
        texts: (tokens (N, L, D), pooled (N, P)) of the negative prompts, if the family has them, and of the prompts.
        guidance_scale: of classifier-free guidance, or the number that a distilled model takes instead.
    """

    texts: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    guidance_scale: float


@dataclass(frozen=True)
class FlowModel:
    """What an editor needs of a flow-matching pipeline of diffusers. Subclasses are the families.

    Args:
        pipeline: on its device; its scheduler is only read.
        device: such as "cuda:0".
        max_sequence_length: tokens that T5 reads.
        negative_prompt: of the rows without the prompt; None if the family has no such rows.
    """

    pipeline: Any
    device: str
    max_sequence_length: int
    negative_prompt: str | None = None

    t5_tokenizer: ClassVar[str]  # the pipeline's attribute; SD3 works without T5, and it is then None
    even_sigmas: ClassVar[bool] = False  # whether noise levels are evenly spaced before the scheduler shifts them

    @cached_property
    def embeddings(self) -> TextEmbeddingCache:
        """(tokens (1, L, D), pooled (1, P)) of a text, on the CPU; each distinct text is encoded once."""
        return TextEmbeddingCache(self._encode_text, MAX_TEXTS)

    def condition(self, texts: Sequence[str], guidance_scale: float) -> Condition:
        """What steers N rows, one text each."""
        import torch

        groups = [list(texts)]
        if self.negative_prompt is not None:
            groups.insert(0, [self.negative_prompt] * len(texts))
        stacked = []
        for group in groups:
            tokens, pooled = zip(*self.embeddings(group), strict=True)
            stacked.append((torch.cat(tokens).to(self.device), torch.cat(pooled).to(self.device)))
        return Condition(tuple(stacked), guidance_scale)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The latents of images (N, 3, H, W) in [-1, 1]: the mode of the VAE's posterior, shifted and scaled."""
        vae = self.pipeline.vae
        z = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return (z - (vae.config.shift_factor or 0)) * vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The images of latents, (N, 3, H, W) float32 in [0, 1]. Ends a pass: offloaded networks leave the GPU."""
        vae = self.pipeline.vae
        z = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        decoded = vae.decode(z.to(vae.dtype), return_dict=False)[0]
        self.pipeline.maybe_free_model_hooks()
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    def noise(self, latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """Standard normal noise of the latents' shape and dtype, row i from source i."""
        return draw_noise(latents, sources)

    def sigmas(self, steps: int, latents: torch.Tensor) -> torch.Tensor:
        """(steps + 1,) falling noise levels in [0, 1], the last one 0."""
        import diffusers

        config = self.pipeline.scheduler.config
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)  # `set_timesteps` writes into it
        schedule: dict[str, Any] = {"num_inference_steps": steps}
        if self.even_sigmas:
            schedule = {"sigmas": np.linspace(1, 1 / steps, steps)}
        if config.use_dynamic_shifting:
            # Larger images need more noise: the shift lies on the line through the scheduler's two points.
            slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
            tokens = latents[0, 0].numel() // 4
            schedule["mu"] = config.base_shift + slope * (tokens - config.base_image_seq_len)
        scheduler.set_timesteps(device=self.device, **schedule)
        return scheduler.sigmas

    def velocity(self, t: torch.Tensor, *pairs: tuple[torch.Tensor, Condition]) -> list[torch.Tensor]:
        """V(z, t | condition) of each pair (z, condition), float32, all from one pass through the transformer.

        Args:
            t: noise level in [0, 1], a tensor without dimensions.
            pairs: latents of N rows, and what steers them.
        """
        import torch

        rows = [(z, *text, condition.guidance_scale) for z, condition in pairs for text in condition.texts]
        z, tokens, pooled = (torch.cat([row[i] for row in rows]) for i in range(3))
        scales = torch.tensor([scale for z, *_, scale in rows for _ in z], device=z.device)
        z = z.to(self.pipeline.transformer.dtype)
        v = self._forward(z, t.expand(len(z)), tokens, pooled, scales).float()
        velocities = []
        for part, (_, condition) in zip(v.chunk(len(pairs)), pairs, strict=True):
            if len(condition.texts) == 2:  # classifier-free guidance
                unconditional, conditional = part.chunk(2)
                part = unconditional + condition.guidance_scale * (conditional - unconditional)
            velocities.append(part)
        return velocities

    def _encode_text(self, text: str) -> tuple[torch.Tensor, ...]:
        warn_if_truncated(self.pipeline.tokenizer, [text], self.pipeline.tokenizer_max_length)
        t5 = getattr(self.pipeline, self.t5_tokenizer)
        if t5 is not None:
            warn_if_truncated(t5, [text], self.max_sequence_length)
        return tuple(embedding.cpu() for embedding in self._encode_prompt(text))

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        raise NotImplementedError


class SD3(FlowModel):
    """`StableDiffusion3Pipeline`, SD3.5 too: two rows for a velocity, by classifier-free guidance."""

    t5_tokenizer = "tokenizer_3"

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            text, None, None, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return tokens, pooled

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        return self.pipeline.transformer(
            hidden_states=z,
            timestep=1000 * t,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


class Flux(FlowModel):
    """`FluxPipeline`: distilled, one row for a velocity; the guidance scale is an input of the network."""

    t5_tokenizer = "tokenizer_2"
    even_sigmas = True

    def noise(self, latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """As `FlowModel.noise`, drawn in the packed order."""
        return unpack(draw_noise(pack(latents), sources), latents)

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, pooled, _ = self.pipeline.encode_prompt(text, None, max_sequence_length=self.max_sequence_length)
        return tokens, pooled

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        transformer = self.pipeline.transformer
        v = transformer(
            hidden_states=pack(z),
            timestep=t,
            guidance=scales if transformer.config.guidance_embeds else None,  # "schnell" takes no guidance
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            txt_ids=z.new_zeros(tokens.shape[1], 3),
            img_ids=token_positions(z),
            return_dict=False,
        )[0]
        return unpack(v, z)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) to (N, H/2 · W/2, 4C): a token of FLUX is a square of 2 × 2."""
    n, channels, height, width = latents.shape
    squares = latents.reshape(n, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // 4, 4 * channels)


def unpack(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`pack` undone, to the shape of `like`."""
    n, channels, height, width = like.shape
    squares = tokens.reshape(n, height // 2, width // 2, channels, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def token_positions(latents: torch.Tensor) -> torch.Tensor:
    """(H/2 · W/2, 3): 0, row and column of each token of FLUX."""
    import torch

    rows, columns = (torch.arange(side // 2, device=latents.device) for side in latents.shape[2:])
    grid = torch.cartesian_prod(rows, columns).to(latents.dtype)
    return torch.cat([torch.zeros_like(grid[:, :1]), grid], dim=1)
