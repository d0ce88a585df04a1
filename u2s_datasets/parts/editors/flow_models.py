"""SD3 and FLUX as velocity fields: pictures to latents and back, texts to conditions, noise levels, V(z, t | text).

Latents are (N, C, H/8, W/8) here for both, before FLUX packs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from u2s_datasets.parts.editors.diffusion import Once, noise_like, warn_of_long

if TYPE_CHECKING:
    import torch

REMEMBERED = 128
"""Texts whose embeddings are kept, in the CPU's memory: one of SD3's takes 2.7 MB in float16, one of FLUX's 4.2 MB."""


@dataclass(frozen=True)
class Condition:
    """What the velocities of N rows are steered by.

    Args:
        texts: (tokens (N, L, D), pooled (N, P)) of the negative prompts, where the family has them, and of the prompts.
        guidance_scale: of classifier-free guidance, or the number that a distilled model takes instead.
    """

    texts: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    guidance_scale: float


@dataclass(frozen=True)
class FlowModel:
    """A flow-matching pipeline of diffusers, seen through what an editor needs of it. Subclasses are the families.

    Args:
        pipeline: on its device; its scheduler is only read.
        device: such as "cuda:0".
        max_sequence_length: tokens that T5 reads.
        negative_prompt: of the rows without the prompt; None where the family has no such rows.
    """

    pipeline: Any
    device: str
    max_sequence_length: int
    negative_prompt: str | None = None

    @cached_property
    def embeddings(self) -> Once:
        """(tokens (1, L, D), pooled (1, P)) of a text, on the CPU; each distinct text is encoded once."""
        return Once(self._encode, REMEMBERED)

    def condition(self, texts: Sequence[str], guidance_scale: float) -> Condition:
        """What steers N rows, one text each."""
        groups = [list(texts)]
        if self.negative_prompt is not None:
            groups.insert(0, [self.negative_prompt] * len(texts))
        return Condition(tuple(self._stacked(group) for group in groups), guidance_scale)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The latents of pictures (N, 3, H, W) in [-1, 1]: the mode of the VAE's posterior, shifted and scaled."""
        vae = self.pipeline.vae
        z = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return (z - (vae.config.shift_factor or 0)) * vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The pictures of latents, (N, 3, H, W) float32 in [0, 1]."""
        vae = self.pipeline.vae
        z = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
        pictures = vae.decode(z.to(vae.dtype), return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    def noise(self, latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """Standard normal noise of the latents' shape and dtype, row i from source i."""
        return noise_like(latents, sources)

    def sigmas(self, steps: int, latents: torch.Tensor) -> torch.Tensor:
        """(steps + 1,) falling noise levels in [0, 1], the last one 0."""
        import diffusers

        config = self.pipeline.scheduler.config
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(config)  # `set_timesteps` writes into it
        more = {"mu": _shift(config, latents[0, 0].numel() // 4)} if config.use_dynamic_shifting else {}
        scheduler.set_timesteps(device=self.device, **self._levels(steps), **more)
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
        return [_guided(part, condition) for part, (_, condition) in zip(v.chunk(len(pairs)), pairs, strict=True)]

    def _stacked(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        tokens, pooled = zip(*self.embeddings(texts), strict=True)
        return torch.cat(tokens).to(self.device), torch.cat(pooled).to(self.device)

    def _long(self, text: str, t5: Any) -> None:
        warn_of_long(self.pipeline.tokenizer, [text], self.pipeline.tokenizer_max_length)
        if t5 is not None:  # SD3 works without it
            warn_of_long(t5, [text], self.max_sequence_length)

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def _levels(self, steps: int) -> dict[str, Any]:
        return {"num_inference_steps": steps}

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        raise NotImplementedError


class SD3(FlowModel):
    """`StableDiffusion3Pipeline`, SD3.5 too: two rows for a velocity, guided by what the prompt changes."""

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        self._long(text, self.pipeline.tokenizer_3)
        length = self.max_sequence_length
        tokens, _, pooled, _ = self.pipeline.encode_prompt(
            text, None, None, do_classifier_free_guidance=False, max_sequence_length=length
        )
        return tokens.cpu(), pooled.cpu()

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        return self.pipeline.transformer(
            hidden_states=z,
            timestep=1000 * t,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            return_dict=False,
        )[0]


class Flux(FlowModel):
    """`FluxPipeline`: distilled, one row for a velocity; the guidance scale is a number that it takes."""

    def noise(self, latents: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """As `FlowModel.noise`, drawn in the packed order."""
        return unpacked(noise_like(packed(latents), sources), latents)

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        self._long(text, self.pipeline.tokenizer_2)
        tokens, pooled, _ = self.pipeline.encode_prompt(text, None, max_sequence_length=self.max_sequence_length)
        return tokens.cpu(), pooled.cpu()

    def _levels(self, steps: int) -> dict[str, Any]:
        return {"sigmas": np.linspace(1, 1 / steps, steps)}

    def _forward(self, z: Any, t: Any, tokens: Any, pooled: Any, scales: Any) -> torch.Tensor:
        transformer = self.pipeline.transformer
        v = transformer(
            hidden_states=packed(z),
            timestep=t,
            guidance=scales if transformer.config.guidance_embeds else None,  # "schnell" takes none
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            txt_ids=z.new_zeros(tokens.shape[1], 3),
            img_ids=places(z),
            return_dict=False,
        )[0]
        return unpacked(v, z)


def _guided(v: torch.Tensor, condition: Condition) -> torch.Tensor:
    if len(condition.texts) == 1:
        return v
    without, with_prompt = v.chunk(2)
    return without + condition.guidance_scale * (with_prompt - without)


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) to (N, H/2 · W/2, 4C): a token of FLUX is a square of 2 × 2."""
    n, channels, height, width = latents.shape
    squares = latents.reshape(n, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // 4, 4 * channels)


def unpacked(tokens: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`packed` undone, to the shape of `like`."""
    n, channels, height, width = like.shape
    squares = tokens.reshape(n, height // 2, width // 2, channels, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)


def places(latents: torch.Tensor) -> torch.Tensor:
    """(H/2 · W/2, 3): 0, row and column of every token of FLUX's."""
    import torch

    rows, columns = (torch.arange(side // 2, device=latents.device) for side in latents.shape[2:])
    grid = torch.cartesian_prod(rows, columns).to(latents.dtype)
    return torch.cat([torch.zeros_like(grid[:, :1]), grid], dim=1)


def _shift(config: Any, tokens: int) -> float:
    """How far the noise levels are shifted up for so many tokens: on the line through the scheduler's two points."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return config.base_shift + slope * (tokens - config.base_image_seq_len)
