"""Model weights on this machine and the device they go to: what every part asks before it loads a network.

Nothing is downloaded: weights are in a folder or in the Hub's cache, or else an error names the command that
downloads them.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from u2s_datasets.errors import MissingWeights, SetupError, missing_extra

DTYPES = ("float32", "bfloat16", "float16")
AUTO_DTYPES = ("auto", *DTYPES)  # for backends; "auto" is the dtype in which the checkpoint was saved

_rank: int | None = None


def use_rank(rank: int | None) -> None:
    """Remember the rank of this worker process, by which `device` and `gpus` choose a GPU; None changes nothing.

    A step calls it with the `rank` of `map(with_rank=True)`. A model that is already loaded stays where it is.
    """
    global _rank
    if rank is not None:
        _rank = rank


def device(wanted: str | None = None) -> str:
    """The device of this process: the one wanted, else the GPU of its rank, else the CPU.

    The rank is that of `use_rank`, else LOCAL_RANK (torchrun, accelerate), else 0; modulo the number of GPUs.

    Raises:
        SetupError: torch sees no such device here, or the text is not the name of a device.
    """
    import torch

    count = torch.cuda.device_count()
    if wanted is None:
        return f"cuda:{_own_rank() % count}" if count else "cpu"
    named = re.fullmatch(r"(cpu|cuda|mps|xpu)(?::([0-9]+))?", wanted) if isinstance(wanted, str) else None
    if named is None:
        raise SetupError(
            f"invalid device={wanted!r}; expected 'cpu', 'cuda', 'cuda:1' or the like, or leave device out"
        )
    kind, number = named[1], int(named[2] or 0)
    counts = {"cpu": 1, "cuda": count, "mps": torch.mps.device_count(), "xpu": torch.xpu.device_count()}
    if number >= counts[kind]:
        raise SetupError(
            f"no device={wanted!r}: torch sees {counts[kind]} {kind} devices; choose another, or leave device out"
        )
    return "cpu" if kind == "cpu" else wanted


def gpu_count() -> int:
    """How many GPUs torch sees here; 0 without torch."""
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count()


def gpus(number: int) -> list[int]:
    """The GPUs of this process, by the same rank as `device`: rank 1 takes the second `number` of them.

    Raises:
        SetupError: there are fewer than that.
    """
    import torch

    count = torch.cuda.device_count()
    if count < number:
        raise SetupError(f"{number} GPUs are needed and torch sees {count}; u2s.TransformersBackend needs none")
    return [(_own_rank() * number + i) % count for i in range(number)]


def _own_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0")) if _rank is None else _rank


def folder(model_id: str, revision: str | None = None) -> Path:
    """The folder with a model's files: `model_id` itself if it is a folder, else its place in the Hub's cache.

    Raises:
        SetupError: the name is empty.
        MissingWeights: the files are in neither; the message holds the command that downloads them.
    """
    if not model_id.strip():  # Path("") would be the working folder
        raise SetupError(f"invalid model={model_id!r}; expected a Hub id, or a folder with weights")
    path = Path(model_id)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model_id, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        raise missing(model_id, revision, "is neither a folder nor in the Hub's cache") from error


def pipeline_index(model_id: str, revision: str | None = None) -> dict[str, Any]:
    """The model_index.json of a checkpoint in diffusers' layout; its "_class_name" names the pipeline.

    Raises:
        SetupError: as `folder` does, or the file cannot be read.
        MissingWeights: as `folder` does, or the file is missing.
    """
    path = folder(model_id, revision) / "model_index.json"
    try:
        index = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise missing(model_id, revision, "has no model_index.json") from error
    except ValueError as error:
        raise SetupError(f"the model_index.json of {model_id!r} cannot be read: {error}") from error
    if not isinstance(index, dict):
        raise SetupError(f"the model_index.json of {model_id!r} does not list the parts of a pipeline")
    return index


def missing(model_id: str, revision: str | None, why: str) -> MissingWeights:
    """The error for missing weights, with the command that downloads them."""
    pinned = f" --revision {revision}" if revision else ""
    return MissingWeights(f"the model {model_id!r} {why}; run: hf download {model_id}{pinned}")


def fingerprint(model_id: str, revision: str | None = None) -> str:
    """16 hex digits that tell these weights from others of the same name; "" if the weights are missing."""
    try:
        root = folder(model_id, revision)
    except MissingWeights:
        return ""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    shapes = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def public_id(model_id: str) -> dict[str, str]:
    """{"model": Hub id} for `Part.config`; {} for a folder, whose path is private."""
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", model_id) and not Path(model_id).exists()
    return {"model": model_id} if hub else {}


def need(extra: str, *packages: str) -> None:
    """Raise `MissingExtra` for the first of these packages that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra)


@contextlib.contextmanager
def quietly(*libraries: Any) -> Iterator[None]:
    """Hides the progress bars of transformers and diffusers while weights are loaded."""
    logs = [library.utils.logging for library in libraries if library.utils.logging.is_progress_bar_enabled()]
    for log in logs:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in logs:
            log.enable_progress_bar()
