"""`u2s bench stage1`: what a flag costs, weighed by `choose` or written by `generate`.

Forward passes and tokens are counted on the network itself, so they are the same for weights that mean nothing.
Rates depend on the architecture and the prompt's length, not on what the weights know, so a full-size model of random
weights is timed as the real one would be, except for how many words it would write; those are set to the answer's.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from u2s_datasets.cli.bench.sample_photos import write_samples
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Request, checkpoints
from u2s_datasets.parts.backends.common import first_tokens
from u2s_datasets.parts.backends.transformers_backend import LoadedModel, TransformersBackend
from u2s_datasets.sources.open import FolderSource
from u2s_datasets.stages import prompts
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import CHOICES, LEAD, METHODS, Inspect

_CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_VISION = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = {
    # Qwen3-VL-8B-Instruct's own numbers: 8.77 billion parameters.
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 2048},
}
_EYES = {
    "8b": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096}
    | {"deepstack_visual_indexes": [8, 16, 24]},
    "tiny": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    | {"deepstack_visual_indexes": [0]},
}
_ROPE = {"8b": [24, 20, 20], "tiny": [4, 2, 2]}


@dataclass(frozen=True)
class RandomQwen3VL(TransformersBackend):
    """Qwen3-VL's architecture with random weights, which answer nothing that means anything.

    Args:
        model: "8b", as large as Qwen3-VL-8B-Instruct, or "tiny".
    """

    model: str = "tiny"

    def check(self) -> None:
        """Raises `SetupError` for another size, `MissingExtra` without the packages."""
        if self.model not in _TEXT:
            raise SetupError(f"random weights of size {self.model!r}: choose one of {', '.join(_TEXT)}")
        if self.dtype not in checkpoints.AUTO_DTYPES:
            raise SetupError(f"dtype={self.dtype!r}: choose one of {', '.join(checkpoints.AUTO_DTYPES)}")
        checkpoints.need("models", "torch", "transformers", "torchvision")
        if self.device is not None:
            checkpoints.device(self.device)

    def load(self) -> LoadedModel:
        """The network on this process's device, with a tokenizer trained here on its own prompt."""
        import torch

        self.check()
        device = checkpoints.device(self.device)
        dtype = getattr(torch, "float32" if self.dtype == "auto" else self.dtype)
        network, processor = _qwen3_vl(self.model, device, dtype)
        return LoadedModel(network.eval(), processor, self)


def _qwen3_vl(size: str, device: str, dtype: Any) -> tuple[Any, Any]:
    import torch
    import transformers

    tokenizer = _tokenizer()
    start, end, image, video = tokenizer.convert_tokens_to_ids(_VISION)
    rope = {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_section": _ROPE[size], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config=_TEXT[size] | {"rope_parameters": rope, "max_position_embeddings": 262_144},
        vision_config=_EYES[size],
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            network = transformers.Qwen3VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    pixels = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    pictures = transformers.Qwen2VLImageProcessor(patch_size=16, size=pixels, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    films = transformers.Qwen3VLVideoProcessor()
    return network, transformers.Qwen3VLProcessor(pictures, tokenizer, films, tokenizer.chat_template)


def _tokenizer() -> Any:
    """Byte-level BPE, trained on the flag's prompt, so that prompts have about as many tokens as a real one's."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    prompt = "".join(p.read_text() for p in sorted(prompts.FOLDER.glob("*.txt")))
    lessons = [prompt, *(f"{LEAD} {choice}" for choice in CHOICES)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        lessons * 20, trainers.BpeTrainer(vocab_size=1900, initial_alphabet=alphabet, show_progress=False)
    )
    special = [*_CONTROLS, *_VISION]
    names = dict(zip(("vision_bos_token", "vision_eos_token", "image_token", "video_token"), _VISION, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=names
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def bench(
    src: str | None = None,
    *,
    model: str | None = None,
    random_weights: str | None = None,
    dtype: str | None = None,
    batches: Sequence[int] = (1, 8, 32),
    rows: int = 32,
) -> dict[str, Any]:
    """Measure `choose` against `generate`, print a table and a last line of JSON.

    Args:
        src: a folder of readable photos; those of the scikit-image package where none is given.
        model: a Hub id or folder for `TransformersBackend`; else random weights.
        random_weights: "8b" or "tiny"; None is "8b" where there is a GPU and "tiny" where there is none.
        dtype: of the weights; None is bfloat16 on a GPU and float32 on the CPU.
        batches: batch sizes.
        rows: how many photos, each once per method and batch size.

    Returns:
        What the JSON line holds: per method and batch size forward passes, generated tokens and images per second.

    Raises:
        SetupError: a value, a package, or weights that are not there.
    """
    if rows < 1 or not batches or min(batches) < 1:
        raise SetupError(f"rows={rows}, batches={list(batches)}: both have to be 1 or more")
    if rows < max(batches):
        raise SetupError(f"rows={rows} fill no batch of {max(batches)}: give as many rows, or smaller batches")
    if model and random_weights:
        raise SetupError(f"model={model!r}, random_weights={random_weights!r}: give one of them")
    checkpoints.need("models", "torch", "transformers", "torchvision")
    gpu = checkpoints.device() != "cpu"
    kind = random_weights or ("8b" if gpu else "tiny")
    precision = dtype or ("bfloat16" if gpu else "float32")
    backend = TransformersBackend(model, dtype=precision) if model else RandomQwen3VL(kind, dtype=precision)
    backend.check()
    photos = _photos(src, rows)
    facts: dict[str, Any] = {"model": model or f"Qwen3-VL architecture, {kind}, random weights", "rows": len(photos)}
    facts |= {"device": _device_name(), "dtype": precision, "measured": []}
    for batch_size in batches:
        for method in METHODS:
            facts["measured"].append(_measure(backend, photos, method, batch_size, model is None))
    _print(facts)
    print(json.dumps(facts))
    return facts


def _photos(src: str | None, rows: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(src) if src else Path(name)
        if src is None:
            write_samples(folder)
        source = FolderSource(folder, str(folder))
        known = [Row(item.image, {}) for item in source.read(0, min(rows, len(source)))]
        for row in known:
            row.decoded  # noqa: B018  decoded once, before the clock runs
    return [known[i % len(known)] for i in range(rows)]


def _device_name() -> str:
    import torch

    where = checkpoints.device()
    return where if where == "cpu" else torch.cuda.get_device_name(where)


def _measure(
    backend: TransformersBackend, photos: Sequence[Row], method: str, batch_size: int, random: bool
) -> dict[str, Any]:
    import torch

    loaded = backend.loaded
    limit = len(loaded.tokenizer(f"{LEAD} {CHOICES[1]}").input_ids) + 1 if random else 16
    inspect = Inspect(detectors=(), backend=backend, method=method)
    requests = [replace(r, max_tokens=min(r.max_tokens, limit)) for r in map(inspect.request, photos)]
    counter = _Counter()
    handle = loaded.network.register_forward_hook(counter)
    _ask(loaded, requests[:batch_size], method, batch_size)  # warm
    counter.rows = counter.passes = 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    written = _ask(loaded, requests, method, batch_size)
    seconds = time.monotonic() - start
    handle.remove()
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    return {
        "method": method,
        "batch": batch_size,
        "forward_passes_per_image": counter.rows / len(photos),
        "calls_of_the_network": counter.passes,
        "generated_tokens_per_image": written / len(photos),
        "images_per_second": len(photos) / seconds,
        "peak_gpu_gib": memory,
    }


class _Counter:
    """Counts a network's forward passes, and the rows in them."""

    def __init__(self) -> None:
        self.rows = self.passes = 0

    def __call__(self, network: Any, inputs: Any, output: Any) -> None:
        self.passes += 1
        self.rows += output.logits.shape[0]


def _ask(loaded: LoadedModel, requests: Sequence[Request], method: str, batch_size: int) -> int:
    """Puts the requests to the network; returns how many tokens it wrote for them."""
    firsts, written = first_tokens(loaded.tokenizer, CHOICES), 0
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        if method == "choose":
            loaded.choose(batch, firsts)
        else:
            written += sum(map(len, loaded.generate_tokens(batch)))
    return written


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['model']}, {facts['dtype']}, {facts['device']}, {facts['rows']} photos")
    print("method    batch  passes/image  tokens/image  images/s")
    for m in facts["measured"]:
        print(
            f"{m['method']:9} {m['batch']:5} {m['forward_passes_per_image']:13.2f} "
            f"{m['generated_tokens_per_image']:13.2f} {m['images_per_second']:9.2f}"
        )
    for batch in dict.fromkeys(m["batch"] for m in facts["measured"]):
        rate = {m["method"]: m["images_per_second"] for m in facts["measured"] if m["batch"] == batch}
        print(
            f"choose / generate at batch {batch}: {rate['choose'] / rate['generate']:.2f} times the images per second"
        )
