"""Kept texts and numbers: what is stopped and what passes."""

import base64
import io
import textwrap
import time

import pytest

from tests.helpers.hostile_images import photo
from u2s_datasets.privacy import identifying_text


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
        "d879f8f8f0f0e0c0",
        "0x9f172786e71f1e00",
        "A" * 100,
        "a cup\x00",
    ],
)
def test_telling_texts(text):
    assert identifying_text.find_pii_pattern(text)


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
        "Über allen Gipfeln\nIst Ruh,\nIn allen Wipfeln\n\tSpürest du\r\nKaum einen Hauch",
        "Donaudampfschifffahrtsgesellschaftskapitän, Rindfleischetikettierungsüberwachungsaufgabenübertragung",
        "阳光明媚的下午一只棕色的小狗在公园里追着一个红色的球跑来跑去旁边有两个孩子在笑着看它们玩耍" * 3,
        "👨‍👩‍👧 at the beach 🏖️, مرحبا",
        "dog,cat,person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,bench,bird,horse,sheep,cow,elephant",
        "n02085936-Maltese_dog n02099601-golden_retriever n02106662-German_shepherd n02123045-tabby_cat",
        "Canon EOS 5D Mark IV, EF24-70mm f/2.8L II USM at 50mm",
        "sizes 34, 35, 36, 37, 38, 39, 40, 41, 42 and 43",
    ],
)
def test_harmless_texts(text):
    assert identifying_text.find_pii_pattern(text) is None


def wrapped(data, width):
    return "\n".join(textwrap.wrap(data.decode(), width))


@pytest.mark.parametrize(
    "written",
    [
        lambda data: base64.encodebytes(data).decode(),
        lambda data: wrapped(base64.b64encode(data), 64),
        lambda data: wrapped(base64.urlsafe_b64encode(data), 76),
        lambda data: wrapped(base64.urlsafe_b64encode(data), 20),
        lambda data: wrapped(base64.b32encode(data), 76),
        lambda data: base64.b85encode(data).decode(),
        lambda data: base64.a85encode(data).decode(),
        lambda data: data.decode("latin-1"),
        lambda data: str(list(data)),
        lambda data: ", ".join(f"np.uint8({byte})" for byte in data),
        repr,
    ],
    ids=["mime", "pem", "urlsafe", "narrow", "base32", "base85", "ascii85", "latin1", "list", "numpy", "repr"],
)
@pytest.mark.parametrize("side", [16, 64])
def test_a_thumbnail_as_text_stays_home_however_it_is_written(written, side):
    out = io.BytesIO()
    photo("astronaut.png", (side, side)).save(out, "webp", quality=50)
    assert identifying_text.find_pii_pattern(written(out.getvalue()))
    assert identifying_text.find_pii_pattern(f"a woman in orange\n{written(out.getvalue())}\nbefore a flag")


def test_words_that_were_read_stay_home():
    assert identifying_text.withhold_texts("the Miller bakery", ["MILLER"]) == (None, 1)
    assert identifying_text.withhold_texts("a bakery", ["MILLER"]) == ("a bakery", 0)
    assert identifying_text.withhold_texts({"a": ["Miller", "bread"], "b": 3}, ["Miller"]) == (
        {"a": [None, "bread"], "b": 3},
        1,
    )


@pytest.mark.parametrize(
    ("pieces", "read"),
    [
        (["call", "555", "123", "4567"], ""),
        (["12", "May", "1990"], ""),
        (["maria", "@", "example.org"], ""),
        (["12", ["M", "ay"], {"year": "1990"}], ""),
        (["the Jo", "hn Sm", "ith bakery"], "JOHN SMITH"),
        ([base64.b64encode(bytes(range(256)))[i : i + 12].decode() for i in range(0, 344, 12)], ""),
    ],
)
def test_what_stands_in_a_list_in_pieces_stays_home(pieces, read):
    kept, stopped = identifying_text.withhold_texts(pieces, [read])
    assert list(identifying_text.iter_strings(kept)) == [] and len(kept) == len(pieces)
    assert stopped == len(list(identifying_text.iter_strings(pieces)))


@pytest.mark.parametrize(
    "pieces",
    [
        ["A man riding a horse.", "Two people and 3 dogs on a beach.", "A rider in 2 m of water"],
        ["dog", "cat", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"] * 3,
        ["n02085936", "n02099601", "n02106662", "n02123045"] * 3,
        ["red", "4x4", "3 doors", "v8", "1.6 l"],
    ],
)
def test_harmless_lists(pieces):
    assert identifying_text.withhold_texts(pieces, ["MILLER"]) == (pieces, 0)


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
    assert identifying_text.withhold_texts(text, [read]) == (None, 1)


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
    assert identifying_text.withhold_texts(text, [read]) == (text, 0)


def test_a_list_of_texts_without_end_stays_home():
    assert identifying_text.withhold_texts(["a dog on grass " * 200] * 40, []) == ([None] * 40, 40)


def test_what_no_rule_knows_is_an_error():
    for value in (b"x", [b"x"], {"a": object()}):
        with pytest.raises(TypeError, match="nothing has inspected"):
            identifying_text.withhold_texts(value, [])


@pytest.mark.parametrize("text", ["a" * 300_000, "a-" * 100_000, "a b " * 50_000, "1 a." * 50_000])
def test_a_long_text_takes_time_in_proportion(text):
    start = time.monotonic()
    identifying_text.withhold_texts(text, ["JOHN SMITH"])
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "name", ["id", "personID", "gps_lat", "file-name", "birthDate", "user", "GPSLatitude", "file2"]
)
def test_telling_names(name):
    assert identifying_text.is_identifying_name(name)


@pytest.mark.parametrize("name", ["phash", "image_dhash", "aHash", "thumb", "thumbnail", "clipEmbedding", "embedding8"])
def test_names_of_hashes_and_small_copies_tell(name):
    assert identifying_text.is_identifying_name(name)


@pytest.mark.parametrize("name", ["label", "width", "bbox", "caption", "side", "timer"])
def test_harmless_names(name):
    assert not identifying_text.is_identifying_name(name)


def test_a_files_own_name_stays_home_whole_and_not_word_by_word():
    names = ["dog_01.jpg", "dog_01"]
    assert identifying_text.withhold_texts("a dog on grass", [], names) == ("a dog on grass", 0)
    assert identifying_text.withhold_texts("this is Dog 01", [], names) == (None, 1)
    assert identifying_text.withhold_texts({"a": ["from DOG_01.jpg"]}, [], names) == ({"a": [None]}, 1)


@pytest.mark.parametrize("text", ["ᴍᴀʀɢᴀʀᴇᴛ", "𝓜𝓪𝓻𝓰𝓪𝓻𝓮𝓽", "🅜🅐🅡🅖🅐🅡🅔🅣", "🇲🇦🇷🇬🇦🇷🇪🇹", "⠍⠁⠗⠛⠁⠗⠑⠞", "ʇǝɹɐƃɹɐW"])
def test_letters_that_are_drawn_as_symbols_stay_home(text):
    assert identifying_text.withhold_texts(text, []) == (None, 1)
