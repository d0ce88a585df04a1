"""FiftyOne with a real MongoDB in a folder of its own, which is thrown away. Import this before fiftyone.

FiftyOne joins any MongoDB that another FiftyOne of this machine runs, whatever FIFTYONE_DATABASE_DIR says; so the tests
start one and give its address.
"""

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest

found = importlib.util.find_spec("fiftyone")
if found is None:
    pytest.skip("fiftyone is not installed: `make test-fiftyone` installs it", allow_module_level=True)
MONGOD = Path(found.submodule_search_locations[0]) / "db/bin/mongod"
if not MONGOD.exists():
    pytest.skip("MongoDB is not installed: `make test-fiftyone` installs it", allow_module_level=True)

HOME = Path(tempfile.mkdtemp(prefix="u2s-fiftyone-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
PLACES = {
    "FIFTYONE_PLUGINS_DIR": "plugins",
    "FIFTYONE_DEFAULT_DATASET_DIR": "datasets",
    "FIFTYONE_DATASET_ZOO_DIR": "dataset_zoo",
    "FIFTYONE_MODEL_ZOO_DIR": "model_zoo",
    "FIFTYONE_CONFIG_PATH": "config.json",
    "FIFTYONE_APP_CONFIG_PATH": "app_config.json",
    "FIFTYONE_ANNOTATION_CONFIG_PATH": "annotation_config.json",
    "FIFTYONE_EVALUATION_CONFIG_PATH": "evaluation_config.json",
}
os.environ.update({name: str(HOME / place) for name, place in PLACES.items()})
os.environ["HOME"] = str(HOME)  # FiftyOne keeps an id below it, for which it has no option
os.environ |= {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_SHOW_PROGRESS_BARS": "false"}
os.environ |= {"FIFTYONE_DATABASE_VALIDATION": "false"}  # MongoDB 6 is old to FiftyOne, and what Debian 12 can have


def start_mongod() -> str:
    """The address of a new MongoDB, which ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (HOME / "database").mkdir()
    call = [MONGOD, "--dbpath", HOME / "database", "--logpath", HOME / "mongod.log", "--nounixsocket"]
    address = ["--bind_ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([*map(str, call), *address], stdout=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(process.terminate)
    return f"mongodb://127.0.0.1:{port}"


os.environ["FIFTYONE_DATABASE_URI"] = start_mongod()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what FiftyOne's own imports warn of
    import fiftyone as fo
    import fiftyone.operators as foo
    import fiftyone.plugins as fop
    from fiftyone.operators.delegated import DelegatedOperationService
    from fiftyone.operators.executor import ExecutionContext
    from fiftyone.plugins.context import build_plugin_contexts

__all__ = ["DelegatedOperationService", "ExecutionContext", "build_plugin_contexts", "fo", "foo", "fop"]

# FiftyOne's dependencies warn of their own futures; warnings of this package stay errors.
IGNORED = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
