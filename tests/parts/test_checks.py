"""A number that would switch a part off, or a part of another kind, stops a run before its first row."""

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets.parts import catalog


@pytest.mark.parametrize(
    "detector",
    [
        u2s.Faces(flag_threshold=7),
        u2s.Faces(redact_threshold=float("nan")),
        u2s.Faces(scales=0.5),
        u2s.Faces(scales=(0,)),
        u2s.Text(flag_threshold=60),
        u2s.Text(map_threshold=5),
        u2s.Text(box_threshold="0.3"),
        u2s.Text(max_scale=0),
    ],
)
def test_a_detector_that_could_find_nothing_does_not_begin(detector):
    step = u2s.Anonymize(inspect=u2s.Inspect(detectors=(detector,)))
    with pytest.raises(u2s.SetupError, match=r"_threshold=|scales=|max_scale="):
        step({"image": [picture()]})


@pytest.mark.parametrize(
    ("kind", "name", "entries"),
    [
        ("detector", "u2s_datasets.parts.editors.redact:Redact", catalog.DETECTORS),
        ("editor", "u2s_datasets.parts.detectors.faces:Faces", catalog.EDITORS),
        ("backend", "u2s_datasets.parts.detectors.faces:Faces", catalog.BACKENDS),
    ],
)
def test_a_part_of_another_kind_is_refused(kind, name, entries):
    with pytest.raises(
        u2s.SetupError, match=rf"is of another kind; give a subclass of u2s_datasets\.parts\.{kind.capitalize()}"
    ):
        catalog.make(kind, name, entries)


@pytest.mark.parametrize("options", [{"cells": "abc"}, {"margin": float("nan")}, {"noise": -1}, {"cells": True}])
def test_an_editor_is_given_numbers(options):
    with pytest.raises(u2s.SetupError, match=r"invalid .*; expected a number from"):
        u2s.Redact(**options)
