"""Tiny instruction-editing pipelines of the real classes, built from their configurations: no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.helpers.tiny_models import language

WORDS = ["make the person someone else", "replace every sign by a plain wall", "a b c d e f g h i j k l m"] * 20


def clip_tokenizer() -> Any:
    """A CLIP tokenizer whose byte pairs are trained here."""
    raw = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator(WORDS, trainer)
    state = json.loads(raw.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    return transformers.CLIPTokenizer(vocab=state["vocab"], merges=merges, model_max_length=77)


def t5_tokenizer() -> Any:
    """A T5 tokenizer of single characters and a few words."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz.,", "▁the", "▁person", "▁make"]
    return transformers.T5Tokenizer(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)


def clip_text(vocabulary: int, width: int = 32) -> Any:
    """A CLIP text encoder."""
    return transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def _vae(channels: int = 4, **more: Any) -> Any:
    blocks = 4
    return diffusers.AutoencoderKL(
        block_out_channels=[8] * blocks,
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        **more,
    )


def instruct_pix2pix(folder: Path, checker: bool = False) -> Path:
    """SD 1.5's InstructPix2Pix: a UNet of eight input channels.

    Args:
        checker: with a safety checker, which a test can make refuse everything.
    """
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    scheduler = diffusers.EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    made = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=_vae(),
        text_encoder=clip_text(len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=_checker() if checker else None,
        feature_extractor=transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
        if checker
        else None,
        requires_safety_checker=checker,
    )
    return _saved(made, folder)


def sdxl_pix2pix(folder: Path) -> Path:
    """SDXL's InstructPix2Pix, with its two text encoders."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    pooling = transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(**clip_text(len(tokenizer)).config.to_dict() | {"projection_dim": 32})
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )
    made = diffusers.StableDiffusionXLInstructPix2PixPipeline(
        vae=_vae(),
        text_encoder=clip_text(len(tokenizer)),
        text_encoder_2=pooling,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    return _saved(made, folder)


def longcat(folder: Path) -> Path:
    """LongCat-Image-Edit."""
    torch.manual_seed(0)
    eyes = language.qwen_vl(folder / "seen")
    processor = transformers.AutoProcessor.from_pretrained(eyes)
    transformer = diffusers.LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        axes_dims_rope=[4, 4, 8],
    )
    made = diffusers.LongCatImageEditPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(eyes),
        tokenizer=processor.tokenizer,
        text_processor=processor,
        transformer=transformer,
    )
    return _saved(made, folder / "pipeline")


def _checker() -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    eyes = {"image_size": 32, "patch_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config=eyes | {"num_hidden_layers": 1}, text_config={"num_hidden_layers": 1}, projection_dim=8
    )
    made = StableDiffusionSafetyChecker(config)
    made.concept_embeds_weights.data.fill_(-2.0)  # every cosine is above it: everything is refused
    return made


def kontext(folder: Path) -> Path:
    """FLUX.1 Kontext."""
    torch.manual_seed(0)
    first, second = clip_tokenizer(), t5_tokenizer()
    t5 = transformers.T5Config(vocab_size=len(second), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    made = diffusers.FluxKontextPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=clip_text(len(first)),
        tokenizer=first,
        text_encoder_2=transformers.T5EncoderModel(t5),
        tokenizer_2=second,
        transformer=transformer,
        vae=_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
    )
    return _saved(made, folder)


def flux2_klein(folder: Path, distilled: bool = True) -> Path:
    """FLUX.2 klein, whose text encoder is a Qwen3 of 28 layers, because the pipeline reads its 27th."""
    torch.manual_seed(0)
    tokenizer = language.tokenizer()
    words = language._words(tokenizer, num_hidden_layers=28, hidden_size=16, intermediate_size=16)
    text = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**words, head_dim=8))
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4
    )
    made = diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )
    return _saved(made, folder)


def qwen_edit(folder: Path, plus: bool = False) -> Path:
    """Qwen-Image-Edit, or its successor of 2509 and 2511."""
    torch.manual_seed(0)
    eyes = language.qwen_vl(folder / "seen")
    processor = transformers.AutoProcessor.from_pretrained(eyes)
    text = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(eyes)
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        axes_dims_rope=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    kind = diffusers.QwenImageEditPlusPipeline if plus else diffusers.QwenImageEditPipeline
    made = kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=text,
        tokenizer=processor.tokenizer,
        processor=processor,
        transformer=transformer,
    )
    return _saved(made, folder / "pipeline")


def _saved(made: Any, folder: Path) -> Path:
    made.save_pretrained(folder)
    return folder
