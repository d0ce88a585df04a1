"""Pictures with one line of text of which the place is known to the pixel, for `u2s bench detect`."""

import io
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from u2s_datasets.cli.bench.scenes import Scene
from u2s_datasets.errors import SetupError

SIZES = (14, 18, 22, 28, 36, 46, 60)
"""Sizes of the letters, in pixels to an em."""
TURNS = (0, 30, 45, 90, 135, 180, 270, 315)
_FONTS_AT_MOST = 6  # of a script, in the order of their files
_PLACES = 6  # tried on the photo for a line without paper, of which the calmest is taken
_LEAST_CONTRAST = 80  # grey levels between a line without paper and what lies under it, on average
# (ink, paper) of signs and labels, and inks that stand on the photo itself.
_SIGNS = (
    ((0, 0, 0), (255, 255, 255)),
    ((24, 30, 60), (232, 226, 214)),
    ((245, 245, 245), (20, 22, 28)),
    ((250, 240, 60), (30, 70, 150)),
    ((110, 106, 100), (205, 200, 190)),
)
_INKS = ((255, 255, 255), (12, 12, 16), (250, 220, 40), (20, 30, 110), (170, 20, 30))


class Script(NamedTuple):
    """Lines of one script, all of made-up names and places, and what its fonts have in their names."""

    lines: tuple[str, ...]
    family: str = ""


SCRIPTS = {
    "Latin": Script(
        ("Margaret Hollis", "Orrin Vance 42", "Kestrel Lane", "Dr. Imre Falk", "TOBIAS WREN", "Quarry Hill")
    ),
    "Chinese": Script(("林晓峰", "王建国先生", "青石路二十八号", "陈美玉", "南平中学", "刘大海诊所")),
    "Japanese": Script(("山田はなこ", "田中ヒロシ様", "青葉町三丁目", "さくら薬局", "小川ケンジ", "みどり診療所")),
    "Cyrillic": Script(("Марина Зуева", "Олег Дымов", "улица Кленовая", "ЖУКОВ ПЁТР", "Школа номер", "Игорь Шлыков")),
    "Arabic": Script(("سامر الحداد", "شارع الزيتون", "ليلى منصور", "عيادة النور", "يوسف القاضي", "مدرسة الربيع")),
    "Urdu (Nastaliq)": Script(
        ("کامران بٹ", "گلی نمبر چھ", "نازیہ پروین", "ڈاکٹر ظفر ملک", "باغ سٹریٹ", "ثمینہ رفیق"), "nastaliq"
    ),
    "Bengali": Script(("রহিম চৌধুরী", "শান্তি সড়ক", "মিতা সরকার", "ডাক্তার সেন", "কমলা বিদ্যালয়", "অরূপ ঘোষ")),
    "Korean": Script(("김하늘", "박서준 선생님", "은행나무길", "이수민", "한빛약국", "최동욱 원장")),
    "Ethiopic": Script(("አበበ ታደሰ", "ሰላም መንገድ", "ሙሉ ገብሬ", "ዶክተር ሃይሌ", "ትምህርት ቤት", "ሳራ በቀለ")),
    "Thai": Script(("สมชาย ใจดี", "ถนนดอกไม้", "มาลี ทองคำ", "โรงเรียนบ้านนา", "หมอวิชัย", "สุดา แก้วใส")),
    "Devanagari": Script(("रमेश वर्मा", "कमल मार्ग", "सुनीता जोशी", "डॉक्टर मेहरा", "बाल विद्यालय", "अनिल ठाकुर")),
    "Tamil": Script(("முருகன் செல்வம்", "தாமரை தெரு", "கவிதா ராஜன்", "மருத்துவர் பாலா", "அரசு பள்ளி", "இளங்கோ")),
    "Khmer": Script(("សុខ ដារ៉ា", "ផ្លូវផ្កា", "ចាន់ ស្រីមុំ", "សាលារៀន", "គ្លីនិក សុភា", "វណ្ណៈ ភារុណ")),
    "Hebrew": Script(("משה ברזילי", "רחוב התמר", "נועה שקד", "מרפאת האור", "דוד לביא", "בית ספר אלון")),
    "Georgian": Script(("გიორგი ლომიძე", "ვარდის ქუჩა", "ნინო ბერიძე", "ექიმი დათო", "სკოლა", "თამარ ჯაფარიძე")),
    "Armenian": Script(("Արամ Պետրոսյան", "Վարդերի փողոց", "Անի Գրիգորյան", "Դպրոց", "Բժիշկ Հակոբ", "Սոնա Մելիքյան")),
    "Greek": Script(("Νίκος Δρόσος", "Οδός Ελιάς", "Μαρία Λύκου", "ΙΑΤΡΕΙΟ ΦΩΣ", "Σχολείο Αυγής", "Γιώργος Ξένος")),
}


class Line(NamedTuple):
    """What is drawn: a text, its font's file and number in it, letters of so many pixels, degrees counterclockwise."""

    text: str
    font: tuple[str, int]
    size: int
    turn: float = 0.0


def text_scenes(photos: Sequence[np.ndarray], rows: int) -> Iterator[Scene]:
    """The photos as they are and altered, `rows` pictures with a line of each script, and of Latin at each turn.

    Texts, fonts, sizes, inks, places and photos change from one picture to the next.

    Args:
        photos: (H, W, 3) uint8 RGB, which must hold no text of their own.
        rows: pictures per cell, 1 or more.

    Raises:
        SetupError: a script without a font, or a Pillow that cannot shape text.
    """
    fonts = {name: find_fonts(name) for name in SCRIPTS}
    yield from _bare(photos)
    cells = [(name, name, 0) for name in SCRIPTS] + [("Latin", f"Latin at {turn}°", turn) for turn in TURNS]
    for number, (name, cell, turn) in enumerate(cells):
        rng = np.random.default_rng([number])
        lines, files = SCRIPTS[name].lines, fonts[name]
        for row in range(rows):
            font, size = files[row % len(files)], SIZES[row % len(SIZES)]
            line = Line(lines[int(rng.integers(len(lines)))], font, size, turn)
            yield write_line(photos[row % len(photos)], line, rng, cell)


def _bare(photos: Sequence[np.ndarray]) -> Iterator[Scene]:
    for photo in photos:
        yield Scene(photo, "no text", None, "as it is")
        for name, altered in alterations(photo).items():
            yield Scene(altered, "no text, altered", None, name)


def alterations(photo: np.ndarray) -> dict[str, np.ndarray]:
    """What photos go through on their way: (H, W, 3) uint8 RGB darker, brighter, blurred, pressed, mirrored, small."""
    half = (max(photo.shape[1] // 2, 1), max(photo.shape[0] // 2, 1))
    pressed = io.BytesIO()
    Image.fromarray(photo).save(pressed, "JPEG", quality=20)
    return {
        "darker": (photo * 0.5).astype(np.uint8),
        "brighter": np.clip(photo * 1.4 + 20, 0, 255).astype(np.uint8),
        "blurred": cv2.GaussianBlur(photo, (0, 0), 1.5),
        "JPEG 20": np.asarray(Image.open(pressed).convert("RGB")),
        "mirrored": np.ascontiguousarray(photo[:, ::-1]),
        "half size": cv2.resize(photo, half, interpolation=cv2.INTER_AREA),
    }


def find_fonts(script: str) -> list[tuple[str, int]]:
    """(file, number in it) of installed fonts that hold every letter of the script's lines, as fontconfig knows them.

    Raises:
        SetupError: there is none, no fontconfig, or a Pillow without raqm and fribidi.
    """
    if not (features.check("raqm") and features.check("fribidi")):
        raise SetupError(
            "Pillow has no raqm and fribidi here, without which most scripts are drawn wrong; run: "
            "pip install --force-reinstall pillow, or install libfribidi0"
        )
    if shutil.which("fc-list") is None:
        raise SetupError("fc-list is not installed, and fonts are found by it; run: apt-get install fontconfig")
    letters = sorted({f"{ord(letter):x}" for line in SCRIPTS[script].lines for letter in line})
    asked = ["fc-list", f":scalable=true:charset={' '.join(letters)}", "--format", "%{file}\t%{index}\t%{family}\n"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    found = sorted({tuple(line.split("\t")) for line in answer.splitlines() if line.count("\t") == 2})
    fonts = {file: int(index) & 0xFFFF for file, index, family in found if SCRIPTS[script].family in family.lower()}
    if not fonts:
        name = "fonts-noto-cjk" if script in ("Chinese", "Japanese", "Korean") else "fonts-noto-core"
        raise SetupError(f"no installed font holds the letters of {script}; run: apt-get install {name}")
    files = list(fonts.items())
    return files[:: -(-len(files) // _FONTS_AT_MOST)]


def write_line(photo: np.ndarray, line: Line, rng: np.random.Generator, cell: str = "") -> Scene:
    """The photo with a line on it, on paper or without, and where that is; enlarged first if it would not fit."""
    on_paper = bool(rng.integers(2))
    ink, paper = _SIGNS[int(rng.integers(len(_SIGNS)))]
    layer, corners = _turned_line(line, float(rng.uniform(0.3, 1.0)) if on_paper else 0.1)
    picture = Image.fromarray(photo)
    least = 1.25 * max(layer.width / picture.width, layer.height / picture.height)
    if least > 1:
        picture = picture.resize((round(picture.width * least), round(picture.height * least)))
    spans = picture.width - layer.width + 1, picture.height - layer.height + 1
    places = [(int(rng.integers(spans[0])), int(rng.integers(spans[1]))) for _ in range(_PLACES)]
    marks, sheet = layer.split()
    if on_paper:
        x, y = places[0]
        picture.paste(paper, (x, y), sheet)
    else:
        grey = np.asarray(picture.convert("L"), np.float32)
        under = [grey[y : y + layer.height, x : x + layer.width] for x, y in places]
        calmest = int(np.argmin([part.std() for part in under]))
        (x, y), level = places[calmest], float(under[calmest].mean())
        inks = [ink for ink in _INKS if abs(np.dot(ink, (0.299, 0.587, 0.114)) - level) >= _LEAST_CONTRAST]
        ink = inks[int(rng.integers(len(inks)))]
    picture.paste(ink, (x, y), marks)
    kind = f"{line.size} px, on {'paper' if on_paper else 'the photo'}"
    return Scene(np.asarray(picture), cell, corners + np.array([x, y]), kind)


def _turned_line(line: Line, edge: float) -> tuple[Image.Image, np.ndarray]:
    """(image of two bands, the marks and the paper under them; (4, 2) corners of the marks), after its turn.

    Args:
        line: what to draw.
        edge: paper on all sides, as a share of the letters' size.
    """
    font = ImageFont.truetype(line.font[0], line.size, line.font[1], layout_engine=ImageFont.Layout.RAQM)
    left, top, right, bottom = font.getbbox(line.text)
    border = round(edge * line.size) + 1
    size = int(right - left) + 2 * border, int(bottom - top) + 2 * border
    marks = Image.new("L", size, 0)
    ImageDraw.Draw(marks).text((border - left, border - top), line.text, 255, font)
    layer = Image.merge("LA", (marks, Image.new("L", size, 255)))
    turned = layer.rotate(line.turn, Image.Resampling.BICUBIC, expand=True)
    x0, y0, x1, y1 = marks.getbbox() or (0, 0, *size)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float) - np.array(size) / 2
    angle = np.deg2rad(line.turn)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
    return turned, corners @ rotation.T + np.array(turned.size) / 2
