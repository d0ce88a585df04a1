"""A dry run looks at a sample and leaves nothing but a page for its owner."""

import stat

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from u2s_datasets.cli.main import main

RED = ["--detectors", "tests.helpers.fakes:RedSquares", "--num-proc", "1"]


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(10):
        picture(red=i % 4 == 0, seed=i).save(photos / f"{i:02}.png")
    (photos / "broken.png").write_bytes(b"\x89PNG and no more")
    return photos


def test_a_dry_run_says_what_would_be_hidden_and_shows_it(folder, tmp_path, capsys):
    out = tmp_path / "safe"
    assert main(["anonymize", str(folder), "--out", str(out), "--dry-run", *RED]) == 0
    printed = capsys.readouterr().out
    assert "11 of 11 rows were tried out" in printed
    assert "11 rows = 7 safe + 3 anonymized + 1 withheld" in printed
    assert "of the pixels on average" in printed
    page = tmp_path / "safe-dry-run.html"
    assert str(page) in printed and not out.exists()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text("utf-8")
    assert "Do not share" in text and "Looked for" in text
    assert "11 images were tried out: 3 would be edited, in 7 nothing was found, 1 would be withheld." in text


@pytest.mark.parametrize("out", ["/proc/safe", "/proc/none/safe"])
def test_without_a_place_for_the_page_the_numbers_are_there_all_the_same(out, folder, capsys):
    assert main(["anonymize", str(folder), "--out", out, "--dry-run", *RED]) == 0
    printed = capsys.readouterr().out
    assert "11 rows = 7 safe" in printed and f"No page of pictures: {out}-dry-run.html" in printed


def test_options_of_detectors_are_given_by_name(folder, tmp_path):
    strict = u2s.profile(detectors=["faces"], detector_options={"faces": {"flag_threshold": 0.5}})
    assert strict.inspect.detectors[0].flag_threshold == 0.5
    with pytest.raises(u2s.SetupError, match=r"'text'\]: no such detector here; those in use: faces"):
        u2s.profile(detectors=["faces"], detector_options={"text": {"grow": 0.1}})
    with pytest.raises(u2s.SetupError, match=r"has no option 'size'; it has: .*flag_threshold"):
        u2s.profile(detector_options={"faces": {"size": 1}})
    with pytest.raises(u2s.SetupError, match="flag_threshold=7"):
        u2s.profile(detector_options={"faces": {"flag_threshold": 7}})


@pytest.mark.parametrize("wrong", ["flag_threshold=0.3", "faces.=1", ".grow=1"])
def test_an_option_without_its_detector_is_one_line(wrong, folder, tmp_path, capsys):
    assert main(["anonymize", str(folder), "--out", str(tmp_path / "o"), "--detector-option", wrong]) == 2
    assert "expected DETECTOR.NAME=VALUE, such as faces.flag_threshold=0.3" in capsys.readouterr().err
