"""One ONNX file, two engines: onnxruntime, which survives a fork, and OpenVINO, which is twice as fast.

OpenVINO hangs in a forked child once its parent has used it, so `datasets.map` takes the default,
onnxruntime, and the runner's spawned workers take OpenVINO, one worker per core. Both compute in float32 and
give the same result for the same input at every call.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets.errors import SetupError

ENGINES = ("onnxruntime", "openvino")


def check_engine(engine: str) -> None:
    """Raise `SetupError` for an engine that is not one of `ENGINES`."""
    if engine not in ENGINES:
        raise SetupError(f"engine={engine!r} is unknown; use one of: {', '.join(ENGINES)}")


class OnnxModel:
    """A loaded network with one input. Not safe for concurrent calls; one per process is meant.

    Args:
        path: the ONNX file.
        engine: "onnxruntime" or "openvino".
        threads: threads that one call may use, 1 or more.

    Raises:
        SetupError: the engine is unknown or `threads` is below 1.
    """

    def __init__(self, path: str | Path, engine: str = "onnxruntime", threads: int = 1) -> None:
        check_engine(engine)
        if threads < 1:
            raise SetupError(f"threads={threads!r} is below 1; give the number of threads of one call")
        self._run = (_onnxruntime if engine == "onnxruntime" else _openvino)(Path(path), threads)

    def __call__(self, array: np.ndarray) -> list[np.ndarray]:
        """The network's outputs in the file's order, as arrays that the caller owns.

        Args:
            array: the input, in the shape that the network expects, such as (N, 3, H, W) float32.
        """
        outputs = self._run(np.ascontiguousarray(array))
        if not all(np.isfinite(output).all() for output in outputs):
            raise ValueError("the network gave values that are no numbers, which would read as nothing found")
        return outputs


def import_openvino() -> Any:
    """The `openvino` module, imported so that it sends nothing.

    Its import alone reports an event to its makers through `openvino_telemetry`, with no dialog. It runs
    without that package, so the package is hidden while `openvino` is imported for the first time.
    """
    if "openvino" not in sys.modules:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(_TELEMETRY)}
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes its import an ImportError
        try:
            importlib.import_module("openvino")
        finally:
            del sys.modules[_TELEMETRY]
            sys.modules.update(hidden)
    return importlib.import_module("openvino")


_TELEMETRY = "openvino_telemetry"

Run = Callable[[np.ndarray], list[np.ndarray]]


def _onnxruntime(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # below an error nothing is for the user: older files raise pages of warnings
    # The arena and the memory plans of every shape seen are kept for good: a dataset has thousands of sizes.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})


def _openvino(path: Path, threads: int) -> Run:
    openvino = import_openvino()
    settings = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # pinned, two worker processes end up on one core
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the processor has it
        "CPU_RUNTIME_CACHE_CAPACITY": 1000,  # kernels of about 16 shapes; each shape holds 3 MB
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(array: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([array], share_inputs=True, share_outputs=False)
        return [outputs[i] for i in range(len(outputs))]

    return run
