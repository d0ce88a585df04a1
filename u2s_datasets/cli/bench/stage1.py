"""`u2s bench stage1`: what a flag costs, weighed by `choose` or written by `generate`.

Forward passes and tokens are counted on the network itself, so they are the same for weights that mean nothing.
Rates depend on the architecture and the prompt's length, not on what the weights know, so a full-size model of random
weights is timed as the real one would be, except for how many words it would write; those are set to the answer's.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from u2s_datasets import images
from u2s_datasets.cli.bench.random_weights import RandomQwen3VL
from u2s_datasets.cli.bench.sample_photos import open_photos
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Request, checkpoints
from u2s_datasets.parts.backends.common import first_tokens
from u2s_datasets.parts.backends.transformers_backend import LoadedModel, TransformersBackend
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import CHOICES, LEAD, METHODS, Inspect


def bench(
    src: str | None = None,
    model: str | None = None,
    *,
    random_weights: str | None = None,
    dtype: str | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    rows: int = 32,
) -> dict[str, Any]:
    """Measure `choose` against `generate` and print a table.

    Args:
        src: a folder of readable photos; None for those of the scikit-image package.
        model: a Hub id or folder for `TransformersBackend`; None for random weights.
        random_weights: "8b" or "tiny"; None is "8b" with a GPU and "tiny" without.
        dtype: of the weights; None is bfloat16 with a GPU and float32 without.
        batch_sizes: how many photos at a time.
        rows: how many photos, each once per method and batch size.

    Returns:
        Per method and batch size forward passes, generated tokens and images per second.

    Raises:
        SetupError: a wrong value, or a package or weights that are missing.
    """
    if rows < 1 or not batch_sizes or min(batch_sizes) < 1:
        raise SetupError(f"invalid rows={rows} or batches={list(batch_sizes)}; expected numbers of 1 or more")
    if rows < max(batch_sizes):
        raise SetupError(f"rows={rows} fill no batch of {max(batch_sizes)}: give as many rows, or smaller batches")
    if model and random_weights:
        raise SetupError(f"model={model!r}, random_weights={random_weights!r}: give one of them")
    device = checkpoints.device()
    gpu = device != "cpu"
    size = random_weights or ("8b" if gpu else "tiny")
    dtype = dtype or ("bfloat16" if gpu else "float32")
    backend = TransformersBackend(model, dtype=dtype) if model else RandomQwen3VL(size, dtype=dtype)
    backend.check()
    with open_photos(src) as source:
        known = [Row(images.decode(item.image).pixels, {}) for item in source.read(0, rows)]
    photos = [known[i % len(known)] for i in range(rows)]
    facts: dict[str, Any] = {
        "model": model or f"Qwen3-VL architecture, {size}, random weights",
        "rows": rows,
        "device": torch.cuda.get_device_name(device) if gpu else device,
        "dtype": dtype,
        "measured": [_measure(backend, photos, m, n, model is None) for n in batch_sizes for m in METHODS],
    }
    _print(facts)
    return facts


def _measure(
    backend: TransformersBackend, photos: Sequence[Row], method: str, batch_size: int, random: bool
) -> dict[str, Any]:
    loaded, gpu = backend.loaded, torch.cuda.is_available()
    limit = len(loaded.tokenizer(f"{LEAD} {CHOICES[1]}").input_ids) + 1 if random else 16
    inspect = Inspect(detectors=(), backend=backend, method=method)
    requests = [replace(r, max_tokens=min(r.max_tokens, limit)) for r in map(inspect.request, photos)]
    counts: Counter[str] = Counter()

    def count(network: Any, inputs: Any, output: Any) -> None:
        counts.update(passes=1, rows=output.logits.shape[0])

    _ask(loaded, requests[:batch_size], method, batch_size)  # warm-up, neither counted nor timed
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    handle = loaded.network.register_forward_hook(count)
    start = time.monotonic()
    written = _ask(loaded, requests, method, batch_size)
    seconds = time.monotonic() - start
    handle.remove()
    return {
        "method": method,
        "batch": batch_size,
        "forward_passes_per_image": counts["rows"] / len(photos),
        "calls_of_the_network": counts["passes"],
        "generated_tokens_per_image": written / len(photos),
        "images_per_second": len(photos) / seconds,
        "peak_gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if gpu else None,
    }


def _ask(loaded: LoadedModel, requests: Sequence[Request], method: str, batch_size: int) -> int:
    """Put the requests to the network; returns how many tokens it wrote for them."""
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
    rates = {}
    for m in facts["measured"]:
        rates[m["method"], m["batch"]] = m["images_per_second"]
        print(
            f"{m['method']:9} {m['batch']:5} {m['forward_passes_per_image']:13.2f} "
            f"{m['generated_tokens_per_image']:13.2f} {m['images_per_second']:9.2f}"
        )
    for batch in dict.fromkeys(m["batch"] for m in facts["measured"]):
        ratio = rates["choose", batch] / rates["generate", batch]
        print(f"choose / generate at batch {batch}: {ratio:.2f} times the images per second")
