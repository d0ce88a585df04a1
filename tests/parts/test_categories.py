"""What a detector says of its categories is what reports, captions and redaction use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, picture
from u2s_datasets import images
from u2s_datasets.parts import Category, Detection
from u2s_datasets.parts.catalog import category_of, known_categories


@dataclass(frozen=True)
class QR(RedSquares):
    """Somebody else's detector: red squares are QR codes."""

    categories = (Category("qr_code", "QR codes", "QR code", "QR codes", covers=("codes",)),)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[Detection("qr_code", d.box, d.score) for d in found] for found in super().detect(images)]


@dataclass(frozen=True)
class BareQR(QR):
    """The same, that says no more than a name."""

    categories = ("qr_code",)


@pytest.mark.parametrize("detector, words", [("QR", "QR codes"), ("BareQR", "qr_code")])
def test_the_report_of_somebody_elses_detector_says_what_it_looked_for(tmp_path, detector, words):
    picture(red=True, seed=0).save(tmp_path / "a.png")
    run = u2s.run(tmp_path, tmp_path.parent / f"out_{detector}", detectors=[f"{__name__}:{detector}"], num_proc=1)
    assert run["inspected_criteria"] == [words]
    left = [words for words in run["not_inspected"] if "handwriting" in words]
    assert ("QR codes" in left[0]) == (detector == "BareQR")
    page = (tmp_path.parent / f"out_{detector}" / "report.html").read_text("utf-8")
    assert f">{words}<" in page.split("Not looked for")[0]


def test_a_dataset_card_names_a_category_that_is_not_ours():
    assert u2s.Inspect(detectors=(QR(),)).scope()[0] == ["QR codes"]
    assert category_of("qr_code").description == "qr_code" and category_of("face") is known_categories()["face"]


def test_a_category_of_ours_that_is_given_by_its_name_grows_like_ours():
    assert u2s.Inspect(detectors=(RedSquares(),)).growth()["face"] is images.grow_head
    assert u2s.Inspect(detectors=(RedSquares(),)).growth()["plate"] is images.grow_line
