"""`u2s doctor`: which extras, weights and accelerators are here, and what will really be used."""

import importlib.metadata
import importlib.util
import os
import platform
import re

from u2s_datasets.errors import U2SError

_MODULES = {"open_clip_torch": "open_clip", "ray[data]": "ray"}


def examine() -> int:
    """Print the findings. Returns 0 if the profile `cpu` works here, else 1."""
    print(f"python {platform.python_version()} on {platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    print(f"u2s_datasets {importlib.metadata.version('u2s_datasets')}")
    for extra, packages in sorted(_extras().items()):
        modules = {name: _MODULES.get(name, name.replace("-", "_")) for name in packages}
        missing = [name for name, module in modules.items() if importlib.util.find_spec(module) is None]
        cure = f"pip install 'u2s_datasets[{extra}]'"
        print(f"  extra {extra:9}", f"missing {', '.join(missing)}: {cure}" if missing else "ready")
    print(f"accelerator: {_accelerator()}")
    return _try_detectors()


def _extras() -> dict[str, list[str]]:
    """Extra -> the distributions that it adds, read from this package's own metadata."""
    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("u2s_datasets") or []:
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        name = re.match(r"[\w.-]+(?:\[\w+\])?", line)
        if extra and name and not name[0].startswith("u2s"):
            found.setdefault(extra[1], []).append(name[0])
    return found


def _accelerator() -> str:
    """What torch would compute on; the profile `cpu` needs none."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed; the profile 'cpu' needs no accelerator"
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none that torch can use"


def _try_detectors() -> int:
    """Run both engines on a grey image, so that "works" is not a guess. Returns 0 if every detector does, else 1."""
    import numpy as np

    from u2s_datasets.stages.profiles import profile

    failed = 0
    for engine, where in (("onnxruntime", ".map"), ("openvino", "u2s anonymize")):
        for detector in profile().with_engine(engine).inspect.detectors:
            result = "works"
            try:
                detector.detect([np.full((64, 64, 3), 128, np.uint8)])
            except (U2SError, ImportError, OSError, RuntimeError) as error:
                result, failed = f"FAILS: {error}", 1
            print(f"  {type(detector).__name__:6} by {engine:12} in {where:14} {result}")
    return failed
