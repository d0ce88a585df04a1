"""`u2s bench edit`: images per second and memory of a diffusion editor, beside the usual order of calls.

That order, of the editors' public scripts, is one image at a time with its texts encoded anew for each. Both are
measured in the same run on the same weights and with the same number of steps.
"""

import dataclasses
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
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
    model: str | None = None,
    random_weights: str | None = None,
    dtype: str | None = None,
    sizes: Sequence[int] | None = None,
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16),
    steps: int | None = None,
) -> dict[str, Any]:
    """Measure and print a table.

    Args:
        editor: a name of `catalog.EDITORS` that runs a diffusers pipeline.
        model: a Hub id in the cache or a folder; None for random weights.
        random_weights: "full" (the real architecture) or "tiny"; None is "full" with a GPU and "tiny" without.
        dtype: of the weights; None is float16 with a GPU and float32 without.
        sizes: sides of the square images in pixels; None is 512 and 1024 with a GPU, 64 without.
        batch_sizes: how many images at a time.
        steps: `num_inference_steps`; None for the editor's own.

    Returns:
        Per order of calls, size and batch size the images per second and the memory.

    Raises:
        SetupError: a wrong value, or a package or weights that are missing.
    """
    if model and random_weights:
        raise SetupError(f"model={model!r}, random_weights={random_weights!r}: give one of them")
    for name, given in (("sizes", sizes), ("batch_sizes", batch_sizes)):
        if given is not None and (not given or min(given) < 1):
            raise SetupError(f"invalid {name}={list(given)}; expected one or more numbers, each 1 or more")
    gpu = checkpoints.device() != "cpu"
    size = random_weights or ("full" if gpu else "tiny")
    ready = _editor(editor, model, size, dtype or ("float16" if gpu else "float32"), steps)
    measured: list[dict[str, Any]] = []
    for side in sizes or ((512, 1024) if gpu else (64,)):
        reference = _measure(ready, side, 1, forget=True)
        measured.append({"order": "one image at a time, texts encoded anew"} | reference)
        for batch_size in batch_sizes:
            ours = _measure(ready, side, batch_size, forget=False)
            faster = ours["images_per_second"] / reference["images_per_second"] if ours["images_per_second"] else None
            measured.append({"order": "in batches", **ours, "times_as_fast": faster})
    device = torch.cuda.get_device_name() if gpu else "cpu"
    weights = model or f"random, {size}"
    _print(f"{editor}, weights {weights}, {ready.dtype}, {device}", measured)
    return {"editor": editor, "weights": weights, "dtype": ready.dtype, "device": device, "measured": measured}


def _editor(name: str, model: str | None, size: str, dtype: str, steps: int | None) -> DiffusionEditor:
    """The editor with its checkpoint, or without a model with a pipeline of random weights of this size."""
    made = catalog.make("editor", name, catalog.EDITORS)
    if not isinstance(made, DiffusionEditor):
        raise SetupError(f"editor {name!r} runs no diffusion model; time it with `u2s bench`")
    if not model and name not in PIPELINES:
        raise SetupError(f"no random weights for the editor {name!r}, only for {', '.join(PIPELINES)}; give --model")
    options: dict[str, Any] = {"dtype": dtype, "model": model or made.model}
    if steps is not None:
        options["num_inference_steps"] = steps
    chosen = dataclasses.replace(made, **options)
    if model:
        chosen.check()
        return chosen
    chosen.check_values()
    if size not in SIZES:
        raise SetupError(f"unknown size {size!r} of random weights; expected one of: {', '.join(SIZES)}")
    device = checkpoints.device(chosen.device)
    pipeline = PIPELINES[name](size, device, getattr(torch, dtype))
    object.__setattr__(chosen, "_loaded", chosen.wrap_pipeline(chosen.to_device(pipeline)))
    return chosen


def _measure(editor: DiffusionEditor, side: int, batch_size: int, forget: bool) -> dict[str, Any]:
    """Time batches for a second, one at least, after one that is not timed.

    Args:
        forget: whether the texts' embeddings are dropped before each batch.
    """
    facts: dict[str, Any] = {"side": side, "batch": batch_size}
    orders = [_order(editor, side, seed) for seed in range(batch_size)]
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        editor.run(orders)
        caches = _text_caches(editor.loaded) if forget else []
        start, images = _now(), 0
        while images == 0 or _now() - start < 1:
            for cache in caches:
                cache.encode.cache_clear()
            editor.run(orders)
            images += batch_size
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return facts | {"images_per_second": None, "peak_gib": None}
    rate, peak = images / (_now() - start), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if gpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
    return facts | {"images_per_second": rate, "peak_gib": peak}


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
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def _print(head: str, measured: Sequence[dict[str, Any]]) -> None:
    print(head)
    print("side  batch  images/s  peak GiB  times as fast")
    for m in measured:
        rate = "out of memory"
        if m["images_per_second"] is not None:
            rate = f"{m['images_per_second']:8.3f}  {m['peak_gib']:8.2f}"
        note = "texts anew: the reference" if "times_as_fast" not in m else f"{m['times_as_fast'] or 0:.2f}"
        print(f"{m['side']:4}  {m['batch']:5}  {rate}  {note}")
