"""Tiny SD3 and FLUX pipelines of the real classes, built from their configurations and saved: no download.

Tokenizers and weights come from the code below alone, not from a library's training or initialisation, so that
outputs recorded once stay comparable.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = ["photo", "of", "the", "woman", "person", "with", "long", "red", "hair", "wearing", "blue", "uniform"]
WIDTH = 32


def clip_tokenizer() -> Any:
    """Byte pairs that make up `WORDS` and leave other words in letters; 77 tokens at most."""
    letters = list(bytes_to_unicode().values())
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        piece, *others = [*word[:-1], word[-1] + "</w>"]
        for other in others:
            merges.append((piece, other))
            piece += other
            vocabulary.append(piece)
    numbers = {piece: i for i, piece in enumerate(dict.fromkeys(vocabulary))}
    return transformers.CLIPTokenizer(vocab=numbers, merges=list(dict.fromkeys(merges)), model_max_length=77)


def t5_tokenizer() -> Any:
    """Letters."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz.,"]
    vocabulary = [(piece, -float(i)) for i, piece in enumerate(pieces)]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def sd3(folder: Path, t5: bool = True) -> Path:
    """A `StableDiffusion3Pipeline`, with or without the text encoder that it can do without."""
    clip = clip_tokenizer()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=64,
    )
    made = diffusers.StableDiffusion3Pipeline(
        transformer=_filled(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(1.5305, 0.0609),
        text_encoder=_filled(transformers.CLIPTextModelWithProjection(_clip(clip, "gelu"))),
        tokenizer=clip,
        text_encoder_2=_filled(transformers.CLIPTextModelWithProjection(_clip(clip, "quick_gelu"))),
        tokenizer_2=clip,
        text_encoder_3=_t5(2 * WIDTH) if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )
    made.save_pretrained(folder)
    return folder


def flux(folder: Path, guidance_embeds: bool = True) -> Path:
    """A `FluxPipeline` like "dev", or like "schnell" without guidance."""
    clip = clip_tokenizer()
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    made = diffusers.FluxPipeline(
        transformer=_filled(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance_embeds),
        vae=_vae(0.3611, 0.1159),
        text_encoder=_filled(transformers.CLIPTextModel(_clip(clip, "gelu"))),
        tokenizer=clip,
        text_encoder_2=_t5(WIDTH),
        tokenizer_2=t5_tokenizer(),
    )
    made.save_pretrained(folder)
    return folder


def _clip(tokenizer: Any, activation: str) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=48,
        projection_dim=WIDTH,
        num_attention_heads=4,
        num_hidden_layers=2,
        hidden_act=activation,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _t5(width: int) -> Any:
    config = transformers.T5Config(
        vocab_size=32, d_model=width, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    return _filled(transformers.T5EncoderModel(config))


def _vae(scaling_factor: float, shift_factor: float) -> Any:
    made = diffusers.AutoencoderKL(
        block_out_channels=[8, 8, 8, 8],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=16,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return _filled(made)


def _filled(model: Any) -> Any:
    """The model with weights that depend on their names and shapes alone."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(weight.shape))
            if weight.ndim > 1:
                weight.copy_(torch.from_numpy(normal / math.sqrt(weight[0].numel())))
            else:
                weight.copy_(torch.from_numpy(0.1 * normal + name.endswith("weight")))
    return model.eval()
