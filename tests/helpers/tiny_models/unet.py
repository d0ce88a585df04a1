"""Tiny Stable Diffusion checkpoints of the real classes, built from their configurations: no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

WORDS = 77


def tokenizer() -> Any:
    """CLIP's tokenizer with a vocabulary of letters: every letter is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    ids = {token: number for number, token in enumerate(vocabulary)}
    return transformers.CLIPTokenizer(vocab=ids, merges=[], model_max_length=WORDS)


def parts(in_channels: int) -> dict[str, Any]:
    """The parts of a pipeline whose UNet has attention at three levels; weights are random, always the same."""
    torch.manual_seed(0)
    words = tokenizer()
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    unet = diffusers.UNet2DConditionModel(
        in_channels=in_channels,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    text_encoder = transformers.CLIPTextModel(text)
    with torch.no_grad():  # random embeddings hardly differ; spread out, the words of a prompt count
        for name, weight in text_encoder.named_parameters():
            if "token_embedding" in name:
                weight.mul_(20)
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder, "tokenizer": words, **nothing}


def schedule(**other: Any) -> Any:
    """Stable Diffusion's own schedule of noise."""
    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        **other,
    )


def stable_diffusion(folder: Path, **scheduler: Any) -> Path:
    """A Stable Diffusion 1.5."""
    diffusers.StableDiffusionPipeline(scheduler=schedule(**scheduler), **parts(4)).save_pretrained(folder)
    return folder


def instruct_pix2pix(folder: Path, **other: Any) -> Path:
    """An InstructPix2Pix; `other` replaces parts."""
    given = parts(8) | {"scheduler": schedule()} | other
    diffusers.StableDiffusionInstructPix2PixPipeline(**given).save_pretrained(folder)
    return folder
