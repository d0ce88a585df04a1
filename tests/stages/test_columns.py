"""The docstring of a step names the columns that it reads and writes."""

import inspect
import re

import pytest

import u2s_datasets as u2s
from u2s_datasets import columns as c

MODEL = u2s.Scripted(default="")


def documented(step, section):
    """The columns that a section of a step's docstring names; a tuple of `columns` stands for its own."""
    lines = inspect.getdoc(type(step)).split(f"{section} columns:\n")[1].split("\n\n")[0]
    names = re.findall(r"^    (\w[\w., ]*):", lines, re.MULTILINE)
    found = [name for group in names for name in group.split(", ")]
    return {
        column
        for name in found
        for column in (getattr(c, name.removeprefix("columns.")) if name.startswith("columns.") else (name,))
    }


WITH_EVERYTHING = [
    u2s.Inspect(),
    u2s.Caption(backend=MODEL),
    u2s.Instruct(backend=MODEL),
    u2s.Anonymize(caption=u2s.Caption(backend=MODEL)),
    u2s.Score(people=MODEL),
    u2s.Gate(),
]


@pytest.mark.parametrize("step", WITH_EVERYTHING, ids=lambda step: type(step).__name__)
def test_a_docstring_names_the_columns_that_its_step_reads_and_writes(step):
    assert documented(step, "Input") == {step.image_column, *step.inputs()}
    assert documented(step, "Output") == set(step.output_columns({*c.SCORE}))
    assert set(step.writes) <= set(step.output_columns(set()))
