"""Texts before anything is looked for in them: one spelling of every digit and dash, and what is refused outright.

What a reader cannot see is refused and never cleaned away: a name can be spelled in tag characters, zero-width spaces
or variation selectors, and what one rule removes another reader may still decode.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

MAX_CHARS = 4000
"""Characters of one kept text; captions that people write are shorter, encoded files longer."""

# Default-ignorable characters whose category is not Cf, and blanks that count as letters or symbols.
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0x2028, 0x2029}
_SELECTORS = (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0000, 0xE1000))
_SPACES = " \u00a0\u2009\u202f\u3000"
_LAYOUT = "\t\n\r"
# What joins and colours emoji is seen; eight of them can spell no name.
_EMOJI_GLUE = re.compile(
    "(?<=[\u2190-\u2bff\U0001f000-\U0001faff])\ufe0f?\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
    "|(?<=[\u2190-\u2bff\U0001f000-\U0001faff])\ufe0f"
)
_MOST_GLUE = 8

# The scripts that people write captions in; the rest, such as cuneiform or Yi, serve as alphabets of encodings.
_SCRIPTS = {
    *("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI"),
    *("ORIYA", "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "THAI", "LAO", "TIBETAN", "MYANMAR", "GEORGIAN"),
    *("HANGUL", "ETHIOPIC", "KHMER", "MONGOLIAN", "HIRAGANA", "KATAKANA", "BOPOMOFO", "CJK"),
}
_ALIKE = (("LATIN", "CYRILLIC"), ("LATIN", "GREEK"), ("CYRILLIC", "GREEK"))
"""Scripts that share the shapes of their letters: a word of both is a disguise."""
_MAX_SCRIPTS = 3

# Letters drawn as symbols and as other letters upside down: mathematical alphabets, enclosed and Braille ones, flags.
_DRAWN = re.compile("[\U0001d400-\U0001d7cb\u24b6-\u24e9\U0001f110-\U0001f189\u2801-\u28ff]")
_FLAG_LETTER = re.compile("[\U0001f1e6-\U0001f1ff]")
_MOST_FLAG_LETTERS = 6  # three flags
_MOST_DRAWN = 2  # signs of parking and of the metro
_BENT = re.compile("SMALL CAPITAL|TURNED|REVERSED|^MODIFIER LETTER")

_WORD = re.compile(r"[^\W\d_]+")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3001\u3002\u3040-\u30ff\uff0c]")
_SYLLABLE = re.compile("[\uac00-\ud7a3]")
# About four in ten characters of Chinese prose, simplified and traditional, are among these.
_FREQUENT_HAN = frozenset(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于着下自之年过過发發"
    "后後作里裡用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前"
    "开開但因只从從想实實日军軍者意无無力它与與长長把机機十民第公此已工使情明性知全三又关關点點正业業外将將两兩高间間由问問很"
    "最重并並物手应應战戰向头頭文体體政美相见見被利什二等产產或新己制身果加西斯月话話合回特代内信表化老给給世位次度门門任常先海"
    "通教儿兒原东東声聲提立及比员員解水名真论論处處走义義各入几幾口认認条條平系气氣题題活尔爾更别別打女变變四神总總何电電数數"
    "安少报報才结結反受目太量再感建务務做接必场場件计計管期市直德资資命山金指克许許统統区區保至队隊形社便空决決治展马馬科司五"
    "基眼书書非则則听聽白却卻界达達光放强強即像难難且权權思王象完设設式色路记記南品住告类類求据據程北边邊死张張该該交规規万萬"
    "红紅绿綠黑黄黃蓝藍狗猫貓鸟鳥车車树樹花草站坐男街房屋桌椅球旁"
)
_COMMON_SETS = {"han": ("gb2312", "big5", "shift_jis"), "syllables": ("euc_kr",)}


def plain(text: str) -> str:
    """The text with compatibility forms resolved (NFKC), digits of every script as ASCII, every dash and minus as "-".

    Full-width, circled and Arabic-Indic digits, U+2212 and the dashes become what the patterns look for. Lengths and
    positions may change.
    """
    return "".join(map(_plain_character, unicodedata.normalize("NFKC", text)))


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character in "\u2212\u02d7\u2043\u2796":
        return "-"
    return " " if category == "Zs" else character


def refusal(text: str) -> str | None:
    """Why a text is refused whole, before anything is looked for in it; None if it may be looked at.

    It may be too long, hold characters that are not seen, mix look-alike scripts within a word, or be data in the
    shape of text: in a script that nobody writes captions in, in rare ideographs, or in symbols.
    """
    if len(text) > MAX_CHARS:
        return f"more than {MAX_CHARS:,} characters"
    return _unseen(text) or _disguised(text) or _written_data(text)


def _unseen(text: str) -> str | None:
    if text.isascii():
        return "control characters" if re.search("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", text) else None
    for character in _EMOJI_GLUE.sub("", text, count=_MOST_GLUE):
        category, code = unicodedata.category(character), ord(character)
        if category in ("Cc", "Cs", "Co", "Cn") and character not in _LAYOUT:
            return "control characters"
        if category == "Cf" or code in _BLANK or any(code in selectors for selectors in _SELECTORS):
            return "invisible characters"
        if category in ("Zs", "Zl", "Zp") and character not in _SPACES:
            return "unusual spaces"
    return "stacked marks" if re.search(r"[\u0300-\u036f]{4}", text) else None


def _disguised(text: str) -> str | None:
    if text.isascii():
        return None
    bent = sum(bool(_BENT.search(unicodedata.name(letter, ""))) for letter in text if letter.isalpha())
    if bent > 1 or len(_DRAWN.findall(text)) > _MOST_DRAWN or len(_FLAG_LETTER.findall(text)) > _MOST_FLAG_LETTERS:
        return "letters that are drawn as others or as symbols"
    for word in _WORD.findall(text):
        if not word.isascii():
            scripts = Counter(script_of(letter) for letter in word)
            if any(scripts[one] and scripts[other] and len(word) > 2 for one, other in _ALIKE):
                return "letters of two scripts in one word"
    return None


def script_of(letter: str) -> str:
    """The script of a letter, as its Unicode name begins: LATIN, CYRILLIC, CJK …"""
    return unicodedata.name(letter, "NONE").split(" ", 1)[0].split("-", 1)[0]


def scripts_of(text: str) -> set[str]:
    """The scripts of a text's letters; full-width and half-width forms count as what they stand for."""
    return {script_of(letter) for letter in set(unicodedata.normalize("NFKC", text)) if letter.isalpha()} - {"MODIFIER"}


def _written_data(text: str) -> str | None:
    if text.isascii():
        return None
    scripts = scripts_of(text)
    japanese = {"HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL"}
    if scripts - _SCRIPTS or len(scripts - japanese) > _MAX_SCRIPTS:
        return "letters of rare or many scripts"
    symbols = sum(unicodedata.category(character) in ("So", "Sk", "Sm") for character in text)
    if symbols > 16 and 3 * symbols > len(text):
        return "a text of symbols"
    return next(_unlikely_ideographs(text), None)


def _unlikely_ideographs(text: str) -> Iterator[str]:
    """Binary data read as UTF-16, or written in base 4096 of common characters, is even where prose is not."""
    han, syllables = _HAN.findall(text), _SYLLABLE.findall(text)
    for found, sets in ((han, _COMMON_SETS["han"]), (syllables, _COMMON_SETS["syllables"])):
        rare = sum(not any(_is_in(character, encoding) for encoding in sets) for character in found)
        if len(found) >= 12 and 5 * rare > len(found):
            yield "rare ideographs"
        if len(found) >= 64 and len(set(found)) > 0.9 * len(found):
            yield "ideographs that hardly repeat"
    if len(han) >= 48 and not _KANA.search(text):
        frequent = sum(character in _FREQUENT_HAN for character in han)
        if 10 * frequent < len(han):
            yield "no frequent ideograph"


def _is_in(character: str, encoding: str) -> bool:
    """Whether a character is of an encoding's first level, which holds what is written every day."""
    last = {"gb2312": 0xD7, "big5": 0xC6, "shift_jis": 0x98, "euc_kr": 0xC8}[encoding]
    try:
        encoded = character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return len(encoded) == 2 and encoded[0] <= last
