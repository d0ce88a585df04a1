"""`u2s doctor`: which extras, weights and accelerators are here, and what will really be used."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
from pathlib import Path

from u2s_datasets.errors import U2SError

_MODULES = {"open_clip_torch": "open_clip", "ray[data]": "ray"}


def examine() -> int:
    """Print the findings. Returns 0 where the profile `cpu` works here, else 1."""
    print(f"python {platform.python_version()} on {platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    print(f"u2s_datasets {importlib.metadata.version('u2s_datasets')}")
    for extra, packages in sorted(extras().items()):
        missing = [p for p in packages if importlib.util.find_spec(_module(p)) is None]
        cure = f"pip install 'u2s_datasets[{extra}]'"
        print(f"  extra {extra:9}", f"missing {', '.join(missing)}: {cure}" if missing else "ready")
    print(f"accelerator: {accelerator()}")
    return _try_detectors()


def extras() -> dict[str, list[str]]:
    """Extra -> the distributions that it adds, read from this package's own metadata."""
    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("u2s_datasets") or []:
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        name = re.match(r"[\w.-]+(?:\[\w+\])?", line)
        if extra and name and not name[0].startswith("u2s"):
            found.setdefault(extra[1], []).append(name[0])
    return found


def accelerator() -> str:
    """What torch would compute on; the profile `cpu` needs none."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed; the profile 'cpu' needs no accelerator"
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return "none that torch can use"


def _try_detectors() -> int:
    """Load both engines and look at a grey picture, so that "works" is not a guess."""
    import numpy as np

    from u2s_datasets.stages.profiles import profile

    works = 0
    for engine, where in (("onnxruntime", ".map"), ("openvino", "u2s anonymize")):
        for detector in profile().with_engine(engine).inspect.detectors:
            name = type(detector).__name__
            try:
                detector.detect([np.full((64, 64, 3), 128, np.uint8)])
                print(f"  {name:6} by {engine:12} in {where:14} works")
            except (U2SError, ImportError, OSError, RuntimeError) as error:
                print(f"  {name:6} by {engine:12} in {where:14} FAILS: {error}")
                works = 1
    return works


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, Path(distribution).name.replace("-", "_"))
