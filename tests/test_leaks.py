"""Kept texts and numbers: what is stopped and what passes."""

import time

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
        "IMG_20210304_101010",
        "IMG20210304",
        "2021-03-04_birthday",
        "2021-03-04T10:10",
        "2021\u201303\u201304",
        "\uff12\uff10\uff12\uff11\uff0d\uff10\uff13\uff0d\uff10\uff14",
        "12 March 2021",
        "March 4th, 2021",
        "04Mar2021",
        "12. März",
        "le 3 août",
        "4 de mayo",
        "facebook.com/alice.smith",
        "51°30'26\"N",
        "51.50741 -0.12781",
        "tel_01511234567_x",
        "call 0151/1234567",
        "IBAN DE89370400440532013000",
        "alice/IMG_1.jpg",
        "by @alice",
        "d41d8cd98f00b204e9800998ecf8427e",
        "A" * 100,
    ],
)
def test_telling_texts(text):
    assert leaks.telling(text)


@pytest.mark.parametrize(
    "text",
    [
        "two dogs on a beach",
        "n02085936-Maltese",
        "3 of 4 chairs",
        "a 12 m boat",
        "and/or",
        "he may walk 2 dogs in march",
        "2 years ago 3 men sat",
        "20°C outside",
        "Boeing 737-800",
        "Ferrari 458 Italia Coupe 2012",
        "v1.2.3",
        "marker 3",
    ],
)
def test_harmless_texts(text):
    assert leaks.telling(text) is None


def test_words_that_were_read_stay_home():
    assert leaks.withheld_text("the Miller bakery", ["MILLER"]) == (None, 1)
    assert leaks.withheld_text("a bakery", ["MILLER"]) == ("a bakery", 0)
    assert leaks.withheld_text({"a": ["Miller", "bread"], "b": 3}, ["Miller"]) == ({"a": [None, "bread"], "b": 3}, 1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("JohnSmith at work", "JOHN SMITH"),
        ("JohnSmith at work", "SMITH"),
        ("john smith", "JOHNSMITH"),
        ("johnsmith99", "John Smith"),
        ("in JO5B", "JO 5B"),
        ("in JO 5B", "JO5B"),
        ("the Müller bakery", "MULLER"),
        ("the Miller bakery", "GRANDHOTELMILLER"),
        ("照片里王小明站着", "王小明"),
        ("王 小明", "王小明 电话"),
        ("a person on an open field", "OPEN"),
    ],
)
def test_what_was_read_stays_home_however_it_is_spaced(text, read):
    assert leaks.withheld_text(text, [read]) == (None, 1)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a party", "ART"),
        ("a phone", "ONE"),
        ("shop entrance", "OPEN"),
        ("a 5b", "5B"),
        ("犬と猫", "犬"),
        ("a dog", ""),
    ],
)
def test_chance_letters_stop_nothing(text, read):
    assert leaks.withheld_text(text, [read]) == (text, 0)


def test_what_no_rule_knows_is_an_error():
    for value in (b"x", [b"x"], {"a": object()}):
        with pytest.raises(TypeError, match="nothing has inspected"):
            leaks.withheld_text(value, [])


@pytest.mark.parametrize("text", ["a" * 300_000, "a-" * 100_000, "a b " * 50_000, "1 a." * 50_000])
def test_a_long_text_takes_time_in_proportion(text):
    start = time.monotonic()
    leaks.withheld_text(text, ["JOHN SMITH"])
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "name", ["id", "personID", "gps_lat", "file-name", "birthDate", "user", "GPSLatitude", "file2"]
)
def test_telling_names(name):
    assert leaks.telling_name(name)


@pytest.mark.parametrize("name", ["label", "width", "bbox", "caption", "side", "timer"])
def test_harmless_names(name):
    assert not leaks.telling_name(name)


def test_a_files_own_name_stays_home_whole_and_not_word_by_word():
    names = ["dog_01.jpg", "dog_01"]
    assert leaks.withheld_text("a dog on grass", [], names) == ("a dog on grass", 0)
    assert leaks.withheld_text("this is Dog 01", [], names) == (None, 1)
    assert leaks.withheld_text({"a": ["from DOG_01.jpg"]}, [], names) == ({"a": [None]}, 1)
