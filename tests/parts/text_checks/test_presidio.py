"""Presidio with a pipeline that is made here: a blank one, and rules that stand for a model's names."""

from pathlib import Path

import pytest

pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed: pip install 'u2s_datasets[text]'")
spacy = pytest.importorskip("spacy", reason="spacy is not installed: pip install 'u2s_datasets[text]'")

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import public_rows
from u2s_datasets.review.reedit import reedit
from u2s_datasets.runs.manifest import locate_rows
from u2s_datasets.testing import check_configuration, check_text_check

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAMES = (
    ("PERSON", "Margaret Hollis"),
    ("PERSON", [{"LOWER": "hollis"}]),
    ("GPE", "Leeds"),
    ("NORP", "Catholic"),
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> str:
    """The folder of an English pipeline without weights that knows the names above."""
    made = spacy.blank("en")
    made.add_pipe("entity_ruler").add_patterns([{"label": label, "pattern": pattern} for label, pattern in NAMES])
    folder = tmp_path_factory.mktemp("pipeline") / "en_rules"
    made.to_disk(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Margaret Hollis at home", {"PERSON"}),
        ("the sign of HOLLIS", {"PERSON"}),
        ("a street in Leeds", {"LOCATION"}),
        ("a Catholic wedding", {"NRP"}),
        ("ｔｈｅ ｈｏｌｌｉｓ ｆａｍｉｌｙ", {"PERSON"}),
        ("Иван на пляже", {"UNREAD"}),
        ("a dog named 王小明", {"UNREAD"}),
        ("a golden retriever on grass, today at noon", set()),
        ("", set()),
    ],
)
def test_names_and_places_are_found_and_other_scripts_are_not_trusted(pipeline, text, kinds):
    (found,) = u2s.PresidioText(model=pipeline).analyze([text])
    assert {entity.entity_type for entity in found} == kinds


def test_words_that_are_allowed_and_low_scores_are_no_hits(pipeline):
    assert u2s.PresidioText(model=pipeline, allow_list=("Leeds",)).analyze(["a street in Leeds"]) == [[]]
    assert u2s.PresidioText(model=pipeline, entities=("LOCATION",)).analyze(["Margaret Hollis"]) == [[]]
    assert u2s.PresidioText(model=pipeline, score_threshold=1.0).analyze(["Margaret Hollis"]) == [[]]


def test_it_keeps_the_contract_of_parts(pipeline):
    check_text_check(u2s.PresidioText(model=pipeline), "Margaret Hollis at home", "a golden retriever")
    check_configuration(u2s.PresidioText(model=pipeline), {"score_threshold": 7})


def test_nothing_is_downloaded(tmp_path):
    with pytest.raises(
        u2s.MissingWeights, match="model='en_no_such_web'; run: python -m spacy download en_no_such_web"
    ):
        u2s.PresidioText(model="en_no_such_web").check()


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_run_keeps_captions_without_names(pipeline, tmp_path: Path, num_proc):
    folder = tmp_path / "in"
    folder.mkdir()
    said = ["Margaret Hollis at home", "a street in Leeds", "a golden retriever", "call 020 7946 0018"]
    for i, _ in enumerate(said):
        picture(seed=i).save(folder / f"{i}.png")
    lines = [f"{i}.png,{text}" for i, text in enumerate(said)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption", *lines]))
    options = {"detectors": ["tests.helpers.fakes:RedSquares"], "num_proc": num_proc, "keep": ["caption"]}
    facts = u2s.run(folder, tmp_path / "out", text_check="presidio", text_check_options={"model": pipeline}, **options)
    assert {row["caption"] for row in public_rows(tmp_path / "out")} == {None, "a golden retriever"}
    assert facts["kept_emptied"] == {"caption": 3} and facts["names_not_checked"] == []
    assert facts["configuration"]["text_check"]["part"] == "PresidioText"
    assert pipeline not in str(facts)
    if num_proc == 1:
        rows = locate_rows(tmp_path / "out")
        reedit(tmp_path / "out", list(rows), by="ada", detectors=["tests.helpers.fakes:RedSquares"])
        assert {row["caption"] for row in public_rows(tmp_path / "out")} == {None, "a golden retriever"}
