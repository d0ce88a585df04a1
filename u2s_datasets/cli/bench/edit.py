"""`u2s bench edit`: images per second and memory of a diffusion editor, beside the usual order of calls.

That order, of the editors' public scripts, is one image at a time with its texts encoded anew for each. Both are
measured in the same run on the same weights and with the same number of steps.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets.cli.bench.random_weights import PIPELINES, SIZES
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Edit, catalog, checkpoints
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, TextEmbeddingCache

_TEXTS = (
    "A woman with long red hair in a blue uniform stands before a shop whose sign can be read.",
    "An older man with short grey hair in a green coat stands before a shop with a blank sign.",
    "Give the person short grey hair and a green coat, and make the sign blank.",
    "A person stands before a shop.",
)
"""Source prompt, target prompt, instruction and public caption, in the order of `Edit`."""


def bench(
    editor: str = "flowedit",
    *,
    model: str | None = None,
    random_weights: str | None = None,
    dtype: str | None = None,
    sizes: Sequence[int] | None = None,
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16),
    steps: int | None = None,
) -> dict[str, Any]:
    """Measure, print a table and a last line of JSON.

    Args:
        editor: a name of `catalog.EDITORS` that runs a diffusers pipeline.
        model: a Hub id in the cache or a folder; else random weights.
        random_weights: "full" (the real architecture) or "tiny"; None is "full" with a GPU and "tiny" without.
        dtype: of the weights; None is float16 with a GPU and float32 without.
        sizes: sides of the square pictures in pixels; None is 512 and 1024 with a GPU, 64 without.
        batch_sizes: how many pictures at a time.
        steps: `num_inference_steps` instead of the editor's own.

    Returns:
        What the JSON line holds.

    Raises:
        SetupError: a value, a package, weights or a GPU that is not there.
    """
    if model and random_weights:
        raise SetupError(f"model={model!r}, random_weights={random_weights!r}: give one of them")
    for name, given in (("sizes", sizes), ("batch_sizes", batch_sizes)):
        if given is not None and (not given or min(given) < 1):
            raise SetupError(f"{name}={list(given)}: give one or more numbers, each 1 or more")
    checkpoints.need("models", "torch", "diffusers", "transformers")
    import torch

    gpu = checkpoints.device() != "cpu"
    chosen = _editor(editor, model, dtype or ("float16" if gpu else "float32"), steps)
    size = random_weights or ("full" if gpu else "tiny")
    ready = chosen if model else _with_random_weights(chosen, editor, size)
    facts: dict[str, Any] = {"editor": editor, "weights": model or f"random, {size}", "dtype": chosen.dtype}
    facts |= {"device": torch.cuda.get_device_name() if gpu else "cpu", "measured": []}
    for side in sizes or ((512, 1024) if gpu else (64,)):
        reference = _measure(ready, side, 1, forget=True)
        facts["measured"].append({"order": "one image at a time, texts encoded anew"} | reference)
        for batch_size in batch_sizes:
            ours = _measure(ready, side, batch_size, forget=False)
            faster = ours["images_per_second"] / reference["images_per_second"] if ours["images_per_second"] else None
            facts["measured"].append({"order": "in batches", **ours, "times_as_fast": faster})
    _print(facts)
    print(json.dumps(facts))
    return facts


def _editor(name: str, model: str | None, dtype: str, steps: int | None) -> DiffusionEditor:
    made = catalog.make("editor", name, catalog.EDITORS)
    if not isinstance(made, DiffusionEditor):
        raise SetupError(f"editor {name!r} runs no diffusion model; `u2s bench` times the others")
    if not model and name not in PIPELINES:
        known = ", ".join(PIPELINES)
        raise SetupError(f"there are no random weights for the editor {name!r}, only for {known}; give --model")
    options: dict[str, Any] = {"dtype": dtype, "model": model or made.model}
    chosen = dataclasses.replace(made, **options | ({} if steps is None else {"num_inference_steps": steps}))
    if model:
        chosen.check()
    else:
        chosen.check_values()
    return chosen


def _with_random_weights(editor: DiffusionEditor, name: str, size: str) -> DiffusionEditor:
    """The same editor, whose pipeline is made here instead of read from a checkpoint."""
    import torch

    if size not in SIZES:
        raise SetupError(f"random weights of size {size!r}: choose one of {', '.join(SIZES)}")
    device, dtype = checkpoints.device(editor.device), getattr(torch, editor.dtype)
    pipeline = PIPELINES[name](size, device, dtype)
    object.__setattr__(editor, "_loaded", editor.wrap_pipeline(editor.to_device(pipeline)))
    return editor


def _measure(editor: DiffusionEditor, side: int, batch_size: int, forget: bool) -> dict[str, Any]:
    """One batch, after one that is not timed; more of them until a second has gone by."""
    import torch

    facts: dict[str, Any] = {"side": side, "batch": batch_size}
    orders = [_order(editor, side, seed) for seed in range(batch_size)]
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        editor.run(orders)
        start, images = _now(), 0
        while images == 0 or _now() - start < 1:
            if forget:
                for cache in _text_caches(editor.loaded):
                    cache.encode.cache_clear()
            editor.run(orders)
            images += batch_size
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return facts | {"images_per_second": None, "peak_gib": None}
    return facts | {"images_per_second": images / (_now() - start), "peak_gib": _peak_gib()}


def _order(editor: DiffusionEditor, side: int, seed: int) -> Prepared:
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 8 + 1, side // 8 + 1, 3), np.uint8)
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    source, target, instruction, caption = (f"{text} {seed}" for text in _TEXTS)
    edit = Edit(image, source, target, instruction, caption, seed=seed)
    return batches.prepare(edit, editor.multiple, 2**40)


def _text_caches(loaded: Any) -> list[TextEmbeddingCache]:
    """Wherever an editor keeps its texts' embeddings."""
    if isinstance(loaded, TextEmbeddingCache):
        return [loaded]
    values = loaded if isinstance(loaded, tuple) else list(getattr(loaded, "__dict__", {}).values())
    found = [
        cache
        for value in values
        if isinstance(value, (TextEmbeddingCache, tuple)) or dataclasses.is_dataclass(value)
        for cache in _text_caches(value)
    ]
    return found


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def _peak_gib() -> float:
    """Of the GPU's memory, or of this process's where there is none."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['editor']}, weights {facts['weights']}, {facts['dtype']}, {facts['device']}")
    print("side  batch  images/s  peak GiB  times as fast")
    for m in facts["measured"]:
        rate = (
            "out of memory"
            if m["images_per_second"] is None
            else f"{m['images_per_second']:8.3f}  {m['peak_gib']:8.2f}"
        )
        note = "texts anew: the reference" if "times_as_fast" not in m else f"{m['times_as_fast'] or 0:.2f}"
        print(f"{m['side']:4}  {m['batch']:5}  {rate}  {note}")
