"""What the digest of the code covers: all that shapes a row, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import u2s_datasets as u2s
from u2s_datasets.parts.fingerprint import ROOT, SHAPES_ROWS, shaping_files

PROGRAM = "import u2s_datasets as u; from datasets.fingerprint import Hasher; print(Hasher.hash(u.Anonymize()))"
INSIDE = (
    "stages/inspect.py",
    "images/encoding.py",
    "parts/detectors/engine.py",
    "stages/prompts/flag.txt",
    "privacy/kept_columns.py",
)
OUTSIDE = (
    "evaluation/report/report.py",
    "publish/card.py",
    "cli/main.py",
    "evaluation/vispr/evaluate.py",
    "executor/run.py",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(Path(u2s.__file__).parent, folder / "u2s_datasets", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def fingerprint(tree: Path) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tree, check=True, capture_output=True, text=True)
    return done.stdout


def test_a_changed_line_is_another_digest_where_it_shapes_rows_and_the_same_where_it_does_not(tree):
    seen = {fingerprint(tree)}
    for name in INSIDE:
        with (tree / "u2s_datasets" / name).open("a") as code:
            code.write("\n# a comment\n")
        now = fingerprint(tree)
        assert now not in seen, name
        seen.add(now)
    for name in OUTSIDE:
        with (tree / "u2s_datasets" / name).open("a") as code:
            code.write("\n# a comment\n")
    assert fingerprint(tree) == now


def test_every_name_is_there_and_holds_code():
    for name in SHAPES_ROWS:
        assert (ROOT / name).exists(), name
    assert all(path.is_file() for path in shaping_files())
