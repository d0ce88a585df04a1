"""One ONNX file, two engines: onnxruntime, which survives a fork, and OpenVINO, which is twice as fast.

OpenVINO hangs in a forked child once its parent has used it, so `datasets.map` takes the default, onnxruntime, and
the runner's spawned workers take OpenVINO, one worker per core. Both compute in float32 and give the same result for
the same input at every call.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets.parts.checks import check_choice, check_int

ENGINES = ("onnxruntime", "openvino")
_TELEMETRY = "openvino_telemetry"

Run = Callable[[np.ndarray], list[np.ndarray]]


def check_engine(engine: str) -> None:
    """Raise `SetupError` for an engine that is not one of `ENGINES`."""
    check_choice("engine", engine, ENGINES)


class OnnxModel:
    """A loaded network with one input. Not safe for concurrent calls; use one per process.

    Args:
        model: the ONNX file, or what stands in one.
        engine: "onnxruntime" or "openvino".
        threads: threads that one call may use, 1 or more.

    Raises:
        SetupError: the engine is unknown or `threads` is below 1.
    """

    def __init__(self, model: str | Path | bytes, engine: str = "onnxruntime", threads: int = 1) -> None:
        check_engine(engine)
        check_int("threads", threads)
        start = _start_onnxruntime if engine == "onnxruntime" else _start_openvino
        self._run = start(model if isinstance(model, bytes) else str(model), threads)

    def __call__(self, array: np.ndarray) -> list[np.ndarray]:
        """The network's outputs in the file's order, as arrays that the caller owns.

        Args:
            array: the input, in the shape that the network expects, such as (N, 3, H, W) float32.

        Raises:
            ValueError: an output is not finite, which further on would read as nothing found.
        """
        outputs = self._run(np.ascontiguousarray(array))
        if not all(np.isfinite(output).all() for output in outputs):
            raise ValueError("the network's output is not finite, which would read as nothing found")
        return outputs


def import_openvino() -> Any:
    """The `openvino` module, imported so that it sends nothing.

    Importing it reports an event to its makers through `openvino_telemetry` without asking. It runs without that
    package, so the package is hidden while `openvino` is imported for the first time.
    """
    modules: dict[str, Any] = sys.modules
    if "openvino" in modules:
        return modules["openvino"]
    hidden = {name: modules.pop(name) for name in list(modules) if name.startswith(_TELEMETRY)}
    modules[_TELEMETRY] = None  # makes its import an ImportError
    try:
        return importlib.import_module("openvino")
    finally:
        del modules[_TELEMETRY]
        modules.update(hidden)


def _start_onnxruntime(model: str | bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: older files raise pages of warnings that users cannot act on
    # The arena and the memory plans of every shape seen are kept for good, and a dataset has thousands of sizes.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})


def _start_openvino(model: str | bytes, threads: int) -> Run:
    core = import_openvino().Core()
    settings = {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # pinned, two worker processes end up on one core
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the processor has it
        "CPU_RUNTIME_CACHE_CAPACITY": 1000,  # kernels of about 16 shapes; each shape holds 3 MB
    }
    read = core.read_model(model, b"") if isinstance(model, bytes) else core.read_model(model)
    request = core.compile_model(read, "CPU", settings).create_infer_request()

    def run(array: np.ndarray) -> list[np.ndarray]:
        outputs = request.infer([array], share_inputs=True, share_outputs=False)
        return [outputs[i] for i in range(len(outputs))]

    return run
