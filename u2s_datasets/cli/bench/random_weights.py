"""Pipelines of diffusers with random weights, as large as the real ones, for `u2s bench edit`: nothing is downloaded.

The numbers are those of the checkpoints' public configurations. What such a pipeline draws means nothing; how long it
takes, and how much memory, depends on the architecture alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

SIZES = ("full", "tiny")

_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_CLIP_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_T5_XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "d_kv": 64}
_T5_TINY = {"d_model": 64, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16}
_SD3_MEDIUM = {
    "sample_size": 128,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
_SD3_TINY = {
    "sample_size": 32,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "joint_attention_dim": 64,
    "caption_projection_dim": 32,
    "pooled_projection_dim": 64,
    "pos_embed_max_size": 192,
}
_UNET = {
    "full": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "tiny": {
        "block_out_channels": (8, 16, 16, 16),
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
}
_VAE = {
    "full": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "tiny": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
}


def stable_diffusion_3(size: str, device: str, dtype: Any) -> Any:
    """Stable Diffusion 3 medium (2.0 billion parameters in its transformer), with CLIP L, CLIP G and T5 XXL."""
    import diffusers
    import transformers

    full, clip = size == "full", _tokenizer()
    with _made_on(device, dtype):
        parts = {
            "transformer": diffusers.SD3Transformer2DModel(**(_SD3_MEDIUM if full else _SD3_TINY), in_channels=16),
            "vae": _vae(size, latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609),
            "text_encoder": transformers.CLIPTextModelWithProjection(_clip(_CLIP_L if full else _CLIP_TINY)),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip(_CLIP_G if full else _CLIP_TINY)),
            "text_encoder_3": transformers.T5EncoderModel(_t5(full)),
        }
    return diffusers.StableDiffusion3Pipeline(
        **{name: part.eval() for name, part in parts.items()},
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        tokenizer=clip,
        tokenizer_2=clip,
        tokenizer_3=clip,
    )


def stable_diffusion_15(size: str, device: str, dtype: Any) -> Any:
    """Stable Diffusion 1.5 (0.86 billion parameters in its UNet), with CLIP L."""
    import diffusers

    parts = _stable_diffusion_parts(size, device, dtype, in_channels=4)
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def instruct_pix2pix(size: str, device: str, dtype: Any) -> Any:
    """InstructPix2Pix: Stable Diffusion 1.5 whose UNet sees the source picture in four more channels."""
    import diffusers

    parts = _stable_diffusion_parts(size, device, dtype, in_channels=8)
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


PIPELINES: dict[str, Callable[[str, str, Any], Any]] = {
    "flowedit": stable_diffusion_3,
    "freeprompt": stable_diffusion_15,
    "instruct_edit": instruct_pix2pix,
}
"""By the editor's name in the catalog."""


def _stable_diffusion_parts(size: str, device: str, dtype: Any, in_channels: int) -> dict[str, Any]:
    import diffusers
    import transformers

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with _made_on(device, dtype):
        text_encoder = transformers.CLIPTextModel(_clip(_CLIP_L if size == "full" else _CLIP_TINY))
        unet = diffusers.UNet2DConditionModel(sample_size=64, in_channels=in_channels, **_UNET[size])
        vae = _vae(size, latent_channels=4, scaling_factor=0.18215)
    scheduler = diffusers.DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    models = {"text_encoder": text_encoder.eval(), "unet": unet.eval(), "vae": vae.eval()}
    return {**models, "tokenizer": _tokenizer(), "scheduler": scheduler}


def _vae(size: str, **more: Any) -> Any:
    import diffusers

    blocks = len(_VAE[size]["block_out_channels"])  # type: ignore[arg-type]
    down, up = ("DownEncoderBlock2D",) * blocks, ("UpDecoderBlock2D",) * blocks
    return diffusers.AutoencoderKL(down_block_types=down, up_block_types=up, **_VAE[size], **more).eval()


def _clip(numbers: dict[str, int]) -> Any:
    import transformers

    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return transformers.CLIPTextConfig(vocab_size=49408, projection_dim=numbers["hidden_size"], **numbers, **ends)


def _t5(full: bool) -> Any:
    import transformers

    numbers = _T5_XXL if full else _T5_TINY
    return transformers.T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **numbers)


def _tokenizer() -> Any:
    """CLIP's tokenizer without merges: letters. Prompts are padded and cut to the same lengths as the real one's."""
    import transformers
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return transformers.CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=77)


@contextmanager
def _made_on(device: str, dtype: Any) -> Any:
    """Modules made inside are made on this device and of this type at once, so that the largest fit."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
