"""Tiny models of the real classes, built from their configurations and saved as checkpoints: no download.

`taught` trains one of them for some seconds to tell red pictures from blue ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds

TEXTS = [
    "PRIVACY_FLAG: TRUE",
    "PRIVACY_FLAG: FALSE",
    "user assistant system",
    "Is this picture private? Look at it with care and then answer.",
    "0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z",
] * 50
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
INTERN = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}think {% endif %}{% endif %}"
)


def tokenizer(extra: Sequence[str] = (), image: str = "", texts: Sequence[str] = TEXTS, **named: str) -> Any:
    """A byte-level BPE tokenizer, trained here on these texts, with ChatML's template."""
    raw = Tokenizer(kinds.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 520 if texts is TEXTS else 2000
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[*CONTROLS, *extra],
        extra_special_tokens=named,
    )
    made.add_special_tokens({"additional_special_tokens": [*CONTROLS, *extra]})
    made.chat_template = TEMPLATE.replace("IMAGE", image)
    return made


def _words(made: Any, **other: Any) -> dict[str, Any]:
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": made.pad_token_id, "eos_token_id": made.eos_token_id, "bos_token_id": None}
    return size | ids | {"vocab_size": len(made), "num_key_value_heads": 2, "max_position_embeddings": 2048} | other


def causal_lm(folder: Path, texts: Sequence[str] = TEXTS) -> Path:
    """A Qwen3 without eyes."""
    torch.manual_seed(0)
    made = tokenizer(texts=texts)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_words(made), head_dim=16))
    return _saved(folder, model, made)


def qwen_vl(folder: Path, texts: Sequence[str] = TEXTS) -> Path:
    """A Qwen2.5-VL: its pictures keep their sizes and take as many tokens as they need."""
    torch.manual_seed(0)
    made = tokenizer(QWEN, image="<|vision_start|><|image_pad|><|vision_end|>", texts=texts)
    start, end, image, video = made.convert_tokens_to_ids(QWEN)
    eyes = {"hidden_size": 32, "intermediate_size": 64}
    config = transformers.Qwen2_5_VLConfig(
        text_config=_words(made, rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]}),
        vision_config=eyes | {"depth": 2, "num_heads": 2, "out_hidden_size": 64, "fullatt_block_indexes": [1]},
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16)
    films = transformers.Qwen2VLVideoProcessor()
    return _saved(folder, model, transformers.Qwen2_5_VLProcessor(pictures, made, films, made.chat_template))


def internvl(folder: Path) -> Path:
    """An InternVL: its pictures are cut into tiles of one size."""
    torch.manual_seed(0)
    names = dict(
        zip(("start_image_token", "end_image_token", "context_image_token", "video_token"), INTERN, strict=True)
    )
    made = tokenizer(INTERN, image="<IMG_CONTEXT>\n", **names)
    eyes = {"hidden_size": 32, "intermediate_size": 64}
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2"} | _words(made),
        vision_config=eyes | {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
        image_token_id=made.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    model = transformers.InternVLForConditionalGeneration(config)
    pictures = transformers.GotOcr2ImageProcessorPil(size={"height": 56, "width": 56}, min_patches=1, max_patches=2)
    films = transformers.InternVLVideoProcessor()
    return _saved(folder, model, transformers.InternVLProcessor(pictures, made, films, 4, made.chat_template))


def _saved(folder: Path, model: Any, processor: Any) -> Path:
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def taught(folder: Path, steps: int = 80) -> Path:
    """A Qwen2.5-VL that says " TRUE" of a reddish picture and " FALSE" of a blueish one, after "PRIVACY_FLAG:"."""
    qwen_vl(folder)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).train()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    random = np.random.default_rng(0)
    for _ in range(steps):
        flags = random.random(8) < 0.5
        turns = [_lesson(painted(bool(flag), random), str(bool(flag)).upper()) for flag in flags]
        inputs = processor.apply_chat_template(
            turns,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        labels = inputs["input_ids"].clone()
        labels[:, :-_ANSWER] = -100
        model(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return _saved(folder, model, processor)


_ANSWER = 3  # tokens of " TRUE" or " FALSE", the turn's end and the line's


def painted(red: bool, random: np.random.Generator, size: tuple[int, int] = (56, 56)) -> Image.Image:
    """A noisy picture of one colour, (width, height) in pixels."""
    pixels = random.integers(0, 110, (size[1], size[0], 3))
    pixels[..., 0 if red else 2] += int(random.integers(70, 140))
    return Image.fromarray(pixels.astype(np.uint8))


def _lesson(image: Image.Image, answer: str) -> list[dict[str, Any]]:
    question = [{"type": "image", "image": image}, {"type": "text", "text": "Is this picture private?"}]
    said = [{"type": "text", "text": f"PRIVACY_FLAG: {answer}"}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
