"""Models with random weights, as large as the real ones, for `u2s bench edit` and `stage1`: nothing is downloaded.

The numbers are those of the checkpoints' public configurations. What such a model gives means nothing; how long it
takes, and how much memory, depends on the architecture alone. Needs the extra `models`, also to be imported.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checkpoints
from u2s_datasets.parts.backends.transformers_backend import LoadedModel, TransformersBackend
from u2s_datasets.stages import prompts
from u2s_datasets.stages.inspect import CHOICES, LEAD

SIZES = ("full", "tiny")

_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_CLIP_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_T5 = {
    "full": {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "d_kv": 64},
    "tiny": {"d_model": 64, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16},
}
_SD3 = {
    "full": {
        "sample_size": 128,
        "num_layers": 24,
        "num_attention_heads": 24,
        "attention_head_dim": 64,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
    },
    "tiny": {
        "sample_size": 32,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "joint_attention_dim": 64,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 192,
    },
}
_UNET: dict[str, dict[str, Any]] = {
    "full": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "tiny": {"block_out_channels": (8, 16, 16, 16), "cross_attention_dim": 32, "attention_head_dim": 2}
    | {"norm_num_groups": 4},
}
_VAE: dict[str, dict[str, Any]] = {
    "full": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "tiny": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
}


def stable_diffusion_3(size: str, device: str, dtype: Any) -> Any:
    """Stable Diffusion 3 medium (2.0 billion parameters in its transformer), with CLIP L, CLIP G and T5 XXL."""
    clip_l, clip_g = (_CLIP_L, _CLIP_G) if size == "full" else (_CLIP_TINY, _CLIP_TINY)
    t5 = transformers.T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **_T5[size])
    tokenizer = _clip_tokenizer()
    with _made_on(device, dtype):
        parts = {
            "transformer": diffusers.SD3Transformer2DModel(**_SD3[size], in_channels=16),
            "vae": _vae(size, latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609),
            "text_encoder": transformers.CLIPTextModelWithProjection(_clip_config(clip_l)),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip_config(clip_g)),
            "text_encoder_3": transformers.T5EncoderModel(t5),
        }
    return diffusers.StableDiffusion3Pipeline(
        **{name: part.eval() for name, part in parts.items()},
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=tokenizer,
    )


def stable_diffusion_15(size: str, device: str, dtype: Any) -> Any:
    """Stable Diffusion 1.5 (0.86 billion parameters in its UNet), with CLIP L."""
    return diffusers.StableDiffusionPipeline(**_stable_diffusion_parts(size, device, dtype, in_channels=4))


def instruct_pix2pix(size: str, device: str, dtype: Any) -> Any:
    """InstructPix2Pix: Stable Diffusion 1.5 whose UNet sees the source picture in four more channels."""
    parts = _stable_diffusion_parts(size, device, dtype, in_channels=8)
    return diffusers.StableDiffusionInstructPix2PixPipeline(**parts)


PIPELINES: dict[str, Callable[[str, str, Any], Any]] = {
    "flowedit": stable_diffusion_3,
    "freeprompt": stable_diffusion_15,
    "instruct_edit": instruct_pix2pix,
}
"""By the editor's name in the catalog."""


def _stable_diffusion_parts(size: str, device: str, dtype: Any, in_channels: int) -> dict[str, Any]:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with _made_on(device, dtype):
        text_encoder = transformers.CLIPTextModel(_clip_config(_CLIP_L if size == "full" else _CLIP_TINY))
        unet = diffusers.UNet2DConditionModel(sample_size=64, in_channels=in_channels, **_UNET[size])
        vae = _vae(size, latent_channels=4, scaling_factor=0.18215)
    scheduler = diffusers.DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    models = {"text_encoder": text_encoder.eval(), "unet": unet.eval(), "vae": vae.eval()}
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {**models, "tokenizer": _clip_tokenizer(), "scheduler": scheduler, **unused}


def _vae(size: str, **more: Any) -> Any:
    blocks = len(_VAE[size]["block_out_channels"])
    down, up = ("DownEncoderBlock2D",) * blocks, ("UpDecoderBlock2D",) * blocks
    return diffusers.AutoencoderKL(down_block_types=down, up_block_types=up, **_VAE[size], **more).eval()


def _clip_config(numbers: dict[str, int]) -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return transformers.CLIPTextConfig(vocab_size=49408, projection_dim=numbers["hidden_size"], **numbers, **ends)


def _clip_tokenizer() -> Any:
    """CLIP's tokenizer without merges: letters. Prompts are padded and cut to the same lengths as the real one's."""
    letters = list(bytes_to_unicode().values())
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return transformers.CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=77)


@contextmanager
def _made_on(device: str, dtype: Any) -> Iterator[None]:
    """Modules made inside are made on this device and of this type at once, so that the largest fit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


_CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LANGUAGE_MODEL = {
    # Qwen3-VL-8B-Instruct's own numbers: 8.77 billion parameters.
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 2048},
}
_VISION_ENCODER = {
    "8b": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096}
    | {"deepstack_visual_indexes": [8, 16, 24]},
    "tiny": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    | {"deepstack_visual_indexes": [0]},
}
_ROPE = {"8b": [24, 20, 20], "tiny": [4, 2, 2]}


@dataclass(frozen=True)
class RandomQwen3VL(TransformersBackend):
    """Qwen3-VL's architecture with random weights, whose answers mean nothing.

    Args:
        model: "8b", as large as Qwen3-VL-8B-Instruct, or "tiny".
    """

    model: str = "tiny"

    def check(self) -> None:
        """Raises `SetupError` for another size, `MissingExtra` without the packages."""
        if self.model not in _LANGUAGE_MODEL:
            sizes = ", ".join(_LANGUAGE_MODEL)
            raise SetupError(f"unknown size {self.model!r} of random weights; expected one of: {sizes}")
        if self.dtype not in checkpoints.AUTO_DTYPES:
            raise SetupError(f"dtype={self.dtype!r}: choose one of {', '.join(checkpoints.AUTO_DTYPES)}")
        checkpoints.need("models", "torch", "transformers", "torchvision")
        if self.device is not None:
            checkpoints.device(self.device)

    def load(self) -> LoadedModel:
        """The network on this process's device, with a tokenizer trained here on its own prompt."""
        import torch

        self.check()
        dtype = getattr(torch, "float32" if self.dtype == "auto" else self.dtype)
        network, processor = qwen3_vl(self.model, checkpoints.device(self.device), dtype)
        return LoadedModel(network.eval(), processor, self)


def qwen3_vl(size: str, device: str, dtype: Any) -> tuple[Any, Any]:
    """(network, processor) of Qwen3-VL's architecture, of size "8b" or "tiny"."""
    tokenizer = _qwen_tokenizer()
    start, end, image, video = tokenizer.convert_tokens_to_ids(_VISION_TOKENS)
    rope = {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_section": _ROPE[size], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config=_LANGUAGE_MODEL[size] | {"rope_parameters": rope, "max_position_embeddings": 262_144},
        vision_config=_VISION_ENCODER[size],
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    with _made_on(device, dtype):
        network = transformers.Qwen3VLForConditionalGeneration(config)
    pixels = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    images = transformers.Qwen2VLImageProcessor(patch_size=16, size=pixels, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    videos = transformers.Qwen3VLVideoProcessor()
    return network, transformers.Qwen3VLProcessor(images, tokenizer, videos, tokenizer.chat_template)


def _qwen_tokenizer() -> Any:
    """Byte-level BPE, trained on the flag's prompt, so that prompts have about as many tokens as a real one's."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    prompt = "".join(p.read_text() for p in sorted(prompts.FOLDER.glob("*.txt")))
    texts = [prompt, *(f"{LEAD} {choice}" for choice in CHOICES)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1900, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts * 20, trainer)
    names = ("vision_bos_token", "vision_eos_token", "image_token", "video_token")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(zip(names, _VISION_TOKENS, strict=True)),
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*_CONTROL_TOKENS, *_VISION_TOKENS]})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
