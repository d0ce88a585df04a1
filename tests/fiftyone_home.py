"""FiftyOne with a real MongoDB in a folder of its own, which is thrown away. Import this before fiftyone."""

import atexit
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest

HOME = Path(tempfile.mkdtemp(prefix="u2s-fiftyone-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
PLACES = {
    "FIFTYONE_DATABASE_DIR": "database",
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
os.environ |= {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_SHOW_PROGRESS_BARS": "false"}
os.environ |= {"FIFTYONE_DATABASE_VALIDATION": "false"}  # MongoDB 6 is old to FiftyOne, and what Debian 12 can have

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what FiftyOne's own imports warn of
    fo = pytest.importorskip("fiftyone", reason="fiftyone is not installed: `make test-fiftyone` installs it")

    try:
        fo.list_datasets()
    except Exception as error:  # FiftyOne raises what it likes where there is no MongoDB
        pytest.skip(f"MongoDB is not installed: {error}", allow_module_level=True)

# FiftyOne's dependencies warn of their own futures; warnings of this package stay errors.
IGNORED = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
