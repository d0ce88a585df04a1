"""Kept texts and numbers: what is stopped and what passes."""

import pytest

from u2s_datasets import leaks


@pytest.mark.parametrize(
    "text",
    [
        "write to anna@example.org",
        "see https://example.org/x",
        "on 2019-05-04",
        "4.5.2019",
        "call +43 1 234 56 78",
        "IBAN 1234567890",
        "at 48.2084, 16.3731",
        "/home/anna/x.png",
    ],
)
def test_telling_texts(text):
    assert leaks.telling(text)


@pytest.mark.parametrize("text", ["two dogs on a beach", "n02085936-Maltese", "3 of 4 chairs", "a 12 m boat", "and/or"])
def test_harmless_texts(text):
    assert leaks.telling(text) is None


def test_words_that_were_read_stay_home():
    assert leaks.withheld_text("the Miller bakery", ["MILLER"]) == (None, 1)
    assert leaks.withheld_text("a bakery", ["MILLER"]) == ("a bakery", 0)
    assert leaks.withheld_text({"a": ["Miller", "bread"], "b": 3}, ["Miller"]) == ({"a": [None, "bread"], "b": 3}, 1)


@pytest.mark.parametrize("name", ["id", "personID", "gps_lat", "file-name", "birthDate", "user"])
def test_telling_names(name):
    assert leaks.telling_name(name)


@pytest.mark.parametrize("name", ["label", "width", "bbox", "caption", "side", "timer"])
def test_harmless_names(name):
    assert not leaks.telling_name(name)
