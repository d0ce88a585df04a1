"""Texts before anything is looked for in them: their spelling, and what is refused whole."""

import base64
import os
import random

import pytest

from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.plain_text import MAX_CHARS, plain, refusal


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("０７９−４６０", "079-460"),
        ("٣٤ ۳۴ ३४ ๓๔ ᠓", "34 34 34 34 3"),
        ("①② ⒊ ⅓", "12 3. 1⁄3"),
        ("1961‐03–03—03", "1961-03-03-03"),
        ("𝟙𝟗𝟞𝟣 𝓜𝓪𝓻𝓬𝓱", "1961 March"),
        ("a\u00a0b\u3000c", "a b c"),
        ("コーヒー", "コーヒー"),
    ],
)
def test_one_spelling(text, same):
    assert plain(text) == same


def tags(name):
    return "".join(chr(0xE0000 + ord(letter)) for letter in name)


def bits(name, zero, one):
    return "".join(one if byte >> i & 1 else zero for byte in name.encode() for i in range(8))


HIDDEN = "Margaret Hollis"


@pytest.mark.parametrize(
    "text",
    [
        "a cup" + tags(HIDDEN),
        "a cup" + bits(HIDDEN, "\u200b", "\u200c"),
        "a cup" + bits(HIDDEN, "\u2060", "\ufeff"),
        "a cup" + "".join(chr(0xE0100 + ord(letter)) for letter in HIDDEN),
        "a cup" + "".join(chr(0xFE00 + ord(letter) % 16) for letter in HIDDEN),
        "a cup\ufe0f",
        "❤\ufe0f" * 40,
        "a c\u00adu\u00adp",
        "\u202esilloH teragraM",
        "a \u2066cup\u2069",
        "a cup\u200f",
        "a\u034f cup",
        "a cup\u3164\u3164",
        "a\u2800cup",
        "a\u2003cup\u2002",
        "a cup\x1b[8mHollis",
        "a cup\ue000\ue001",
        "a\u0301\u0302\u0303\u0304\u0305 cup",
        "Маrgаret",
        "Hоllis at home",
        "ΑNNA",
        "x" * (MAX_CHARS + 1),
        "a dog " * 1000,
    ],
    ids=range(23),
)
def test_what_is_not_seen_or_too_long_is_refused_and_not_cleaned(text):
    assert refusal(text)
    assert identifying_text.withhold_texts(text, []) == (None, 1)
    assert identifying_text.withhold_texts(["a dog", text], [])[0][1] is None


def common(count):
    """So many characters of the first level of GB 2312, drawn at random."""
    level = [bytes((a, b)).decode("gb2312") for a in range(0xB0, 0xD7) for b in range(0xA1, 0xFF)]
    draw = random.Random(3)
    return "".join(draw.choice(level) for _ in range(count))


BYTES = random.Random(7).randbytes(5000)


@pytest.mark.parametrize(
    "text",
    [
        BYTES.decode("utf-16-le", "ignore"),
        BYTES.decode("utf-16-le", "ignore")[:1500],
        "".join(chr(0x4E00 + byte) for byte in BYTES[:2500]),
        "".join(chr(0x4E00 + (a << 6 | b >> 2)) for a, b in zip(BYTES[:60:2], BYTES[1:60:2], strict=True)),
        common(400),
        common(80),
        "".join(chr(0xAC00 + 43 * byte) for byte in BYTES[:300]),
        "".join(chr(0x2800 + byte) for byte in BYTES[:300]),
        "".join(chr(0xA000 + byte) for byte in BYTES[:300]),
        "".join(chr(0x12000 + byte) for byte in BYTES[:300]),
        "".join(chr(0x1F300 + byte) for byte in BYTES[:300]),
        BYTES[:600].decode("latin-1"),
        BYTES[:600].decode("cp1251", "replace"),
        base64.b64encode(BYTES[:60]).decode(),
        base64.b85encode(BYTES[:90]).decode(),
        base64.b32encode(BYTES[:20]).decode(),
        BYTES[:12].hex(),
        base64.b64encode(os.urandom(18)).decode() + "9a8B7c6D",
    ],
    ids=range(18),
)
def test_data_in_the_shape_of_text_stays_home(text):
    assert identifying_text.withhold_texts(text, []) == (None, 1)
    assert identifying_text.withhold_texts(f"a cup {text} on a table", []) == (None, 1)


CHINESE = "阳光明媚的下午一只棕色的小狗在公园里追着一个红色的球跑来跑去旁边有两个孩子在笑着看它们玩耍"


@pytest.mark.parametrize(
    "text",
    [
        CHINESE,
        f"{CHINESE}。两只猫坐在沙发上,一个女人在厨房里做饭,桌子上有三个苹果和一杯牛奶。",
        "一隻貓在窗邊的椅子上睡覺,外面下著雨,街上有很多人打著傘走過,一輛紅色的公車停在路口。",
        "東京タワーの前で犬が走っている。子供たちが公園で遊んでいます。",
        "고양이가 소파 위에 앉아 있다. 아이들이 공원에서 놀고 있습니다.",
        "собака в парке рядом с IKEA",
        "5 µm, 3 Ω and a β-version",
        "Über allen Gipfeln ist Ruh",
        "แมวนอนอยู่บนโซฟา",
        "सोफे पर एक बिल्ली",
        "猫 cat кот",
        "☀ a sunny day ☔",
    ],
)
def test_prose_in_many_scripts_passes(text):
    assert refusal(text) is None
