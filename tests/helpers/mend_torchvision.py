"""Let torchvision be imported beside a CPU build of torch. `make test-models` runs it in its virtual environment.

PyPI has torchvision for CUDA alone. Beside a CPU torch its compiled operators do not load, and its import fails because
it registers something for operators whose names nobody defined. The image processors of transformers use none of them,
so defining the names is enough for the tests. Where torchvision can be imported already, nothing is changed.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = """import torch as _torch

_names = _torch.library.Library("torchvision", "DEF")  # by tests/helpers/mend_torchvision.py
_names.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_names.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def importable() -> bool:
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
    if done.returncode and "torchvision::nms does not exist" not in done.stderr:
        sys.exit(done.stderr)
    return done.returncode == 0


if not importable():
    found = find_spec("torchvision")
    source = Path(found.origin)
    source.write_text(NAMES + source.read_text())
    if not importable():
        sys.exit("torchvision still cannot be imported")
    print("torchvision: names of operators added, for a CPU build of torch")
