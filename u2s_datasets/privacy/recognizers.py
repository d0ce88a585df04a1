"""What identifies somebody in a text by its form, in Presidio's vocabulary: recognizers, entities, scores.

Presidio's own pattern recognizers are for English and ask for context words; these are for texts beside published
images, where a text that is stopped for nothing costs little. Every quantifier is bounded, so that the time grows with
a text's length and no faster. Names without a title need a model, see `parts.text_checks`.

Source of the vocabulary: https://microsoft.github.io/presidio/supported_entities/
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from u2s_datasets.privacy.addresses import ADDRESS_PATTERNS
from u2s_datasets.privacy.dates import DATE_PATTERNS

NAMES = ("PERSON", "LOCATION", "NRP")
"""What only a model of a language recognises; ADDRESS is recognised by form in some languages."""


@dataclass(frozen=True)
class Entity:
    """What was recognised in a text, as Presidio's `RecognizerResult`.

    Args:
        entity_type: such as "PERSON" or "PHONE_NUMBER".
        start, end: characters of the text that was looked at; of `plain_text.plain`'s where a pattern found it.
        score: confidence in [0, 1].
    """

    entity_type: str
    start: int
    end: int
    score: float = 1.0


@dataclass(frozen=True)
class PatternRecognizer:
    """Recognises one kind of entity by regular expressions, and by a function where these do not reach.

    Args:
        entity: its type.
        says: the words for it in messages, such as "a date".
        patterns: compiled expressions; each match is an entity.
        finds: from a text to further (start, end).
        score: of what it finds.
        of_tokens: whether it goes by letters and digits in a row, which words without their spaces have by chance.
    """

    entity: str
    says: str
    patterns: Sequence[re.Pattern[str]] = ()
    finds: Callable[[str], Iterable[tuple[int, int]]] | None = field(default=None, compare=False)
    score: float = 0.85
    of_tokens: bool = False

    def analyze(self, text: str) -> Iterator[Entity]:
        """Every entity of this kind in a text."""
        for pattern in self.patterns:
            for match in pattern.finditer(text):
                yield Entity(self.entity, match.start(), match.end(), self.score)
        for start, end in self.finds(text) if self.finds else ():
            yield Entity(self.entity, start, end, self.score)


_any_case = partial(re.compile, flags=re.IGNORECASE)

_TOKEN = re.compile(r"[A-Za-z0-9+/=_.~-]{16,4096}")
_DIGIT_EDGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_ANY_EDGE = re.compile(_DIGIT_EDGE.pattern + r"|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[a-z])")


_SHORT_TOKEN = re.compile(r"(?<![^\W_])[A-Za-z0-9]{6,15}(?![^\W_])")
_SIZES = re.compile(r"(?:\d+[a-z]{0,3}x)+\d+[a-z]{0,3}|\d+[pi]\d+(?:fps)?", re.IGNORECASE)


def _short_tokens(text: str) -> Iterator[tuple[int, int]]:
    """Identifiers in base 36, geohashes and the like: three changes between letters and digits, and no size."""
    for match in _SHORT_TOKEN.finditer(text):
        if len(_DIGIT_EDGE.findall(match[0])) >= 3 and not _SIZES.fullmatch(match[0]):
            yield match.span()


def _random_tokens(text: str) -> Iterator[tuple[int, int]]:
    """Tokens that change between letters and digits as random ones do and words, sizes and WordNet ids do not."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        edges = len(_DIGIT_EDGE.findall(token))
        if edges >= 4 or (edges and len(_ANY_EDGE.findall(token)) > 0.35 * len(token)):
            yield match.span()


def _identifiers(text: str) -> Iterator[tuple[int, int]]:
    yield from _random_tokens(text)
    yield from _short_tokens(text)


_AT = r"[ \t]{0,3}(?:[\[({<]\s?(?:at|a|ä|@|arroba|chez|ad|собака)\s?[\])}>]|[_-](?:at|AT)[_-])[ \t]{0,3}"
_SPOKEN_AT = r"\s{1,3}(?:at|@|arroba|собака|klammeraffe|chiocciola)\s{1,3}"
_DOT = r"[ \t]{0,3}(?:\.|[\[({<]\s?(?:dot|punkt|point|punto|ponto|точка|\.)\s?[\])}>]|[_-]dot[_-])[ \t]{0,3}"
_SPOKEN_DOT = r"\s{1,3}(?:dot|punkt|point|punto|ponto|точка)\s{1,3}"
_DIGIT_WORD = (
    r"zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple"
    r"|null|eins?|zwei|zwo|drei|vier|fünf|fuenf|sechs|sieben|acht|neun|zéro|un|deux|trois|quatre|cinq|six|sept|huit|neuf"
    r"|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|due|tre|quattro|cinque|sei|sette|otto|nove"
    r"|um|dois|três|quatro|sete|oito|ноль|один|два|три|четыре|пять|шесть|семь|восемь|девять"
    r"|nul|een|twee|drie|vijf|zes|zeven|negen"
)
_CAMERA = (
    r"DSC[FN]?|_?DSC|_?MG|IMG|PXL|MVIMG|DJI|GOPR|GH0|CIMG|SAM|KIF|HPIM|DCP|PICT|VID|MVI|WP|Screenshot|Screen Shot|photo"
    r"|image|scan|bild|foto"
)
_LABEL = r"[\w-]{1,64}"

_NETWORK = (
    r"insta(?:gram)?|ig|fb|facebook|twitter|tiktok|snap(?:chat)?|telegram|tg|whatsapp|wechat|weixin|微信|vk|вк|вконтакте"
    r"|skype|discord|kakao(?:talk)?|linkedin|youtube|yt|onlyfans|user(?:name)?|handle|nick(?:name)?|account|login|инста"
)
_PHONE_WORD = (
    r"call|tel|phone|telephone|mobile|cell|ring|fax|text me(?: at| on)?|handy|telefon|tél|téléphone|teléfono|móvil"
    r"|cellulare|telefone|celular|тел|телефон|звоните|电话|電話|手机|手機|전화|هاتف|تلفن|טלפון|फ़ोन"
)
_NUMBER_WORD = (
    r"passport|ssn|social security|nhs|national insurance|driving licen[cs]e|licen[cs]e no|ausweis|reisepass|passeport"
    r"|pasaporte|dni|nie|curp|cpf|pesel|bsn|personnummer|аадхаар|aadhaar|паспорт|снилс|инн|身份证|身分證|護照|护照"
    r"|account|konto|customer|member(?:ship)?|employee|student|patient|policy|case|invoice|order"
)
_TITLE = r"Mr|Mrs|Ms|Mx|Dr|Prof|Professor|Sir|Dame|Lord|Herr|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?|Signora?|Sig"

# Kept apart from the table below: letters that number plates of Great Britain, Russia and China are made of.
_PLATE_RU = "[ABEKMHOPCTYXАВЕКМНОРСТУХ]"
_PLATE_CN = "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"

RECOGNIZERS: tuple[PatternRecognizer, ...] = (
    PatternRecognizer(
        "ENCODED",
        "encoded data",
        (re.compile(r"[A-Za-z0-9+/=_-]{80}"),),
        of_tokens=True,
    ),
    PatternRecognizer(
        "CONTROL",
        "control characters",
        (re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ud800-\uf8ff\U000f0000-\U0010ffff]"),),
    ),
    PatternRecognizer(
        "API_KEY",
        "a digest or key",
        (
            _any_case(r"(?<![^\W_])(?:(?:0x)?[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-)"),
            re.compile(
                r"(?<![^\W_])(?:sk-[\w-]{6}|[sprw]k_(?:live|test)_\w|gh[pousr]_\w{6}|github_pat_\w|hf_\w{6}|glpat-\w"
                r"|npm_\w{12}|pypi-\w{12}|dckr_pat_|xox[a-z]-\w|xapp-\w|A[KS]IA[A-Z0-9]{8}|AIza[\w-]{10}|ya29\.\w"
                r"|SG\.[\w-]{8}|eyJ[\w-]{8}|dop_v1_|shp[a-z]{2}_\w{8}|whsec_|r8_\w{8}|gsk_\w{8}|nvapi-\w|lsv2_)"
            ),
            _any_case(r"(?<!\w)(?=[0-9]{0,14}[a-f])(?=[a-f]{0,14}[0-9])[0-9a-f]{10,15}(?!\w)"),
            re.compile(
                r"(?<![\w+/])(?=[a-z0-9+/]{0,80}[A-Z])(?=[A-Z0-9+/]{0,80}[a-z])[A-Za-z0-9+/]{6,4096}={1,2}(?![\w=])"
            ),
            re.compile(r"-----BEGIN |ssh-(?:rsa|dss|ed25519) \w|(?<!\w)Bearer [\w.~+/-]{8}"),
            _any_case(
                r"(?<![^\W_])(?:password|passwort|passwd|pwd|passcode|pin code|secret|token|api[_ -]?key|contraseña"
                r"|mot de passe|пароль|密码|密碼)\s?(?:[:=]|is)\s?\S"
            ),
        ),
        _identifiers,
        of_tokens=True,
    ),
    PatternRecognizer(
        "EMAIL_ADDRESS",
        "an e-mail address",
        (
            re.compile(r"[\w.+-]{1,64}\s{0,2}@\s{0,2}[\w-]{1,64}\s{0,2}\.\s{0,2}\w"),
            re.compile(r"[^\W\d_][\w.+-]{0,63}@\w|[\w.+-]{1,64}\s{1,2}at\s{1,2}[\w-]{1,64}\.[a-z]{2}"),
            _any_case(r"(?<![^\W_])(?:gmail|googlemail|hotmail|proton ?mail|gmx|icloud)(?![^\W_])"),
            re.compile(r"(?<!\w)[\w.-]{2,64}[|/#%=;][\w-]{2,64}[|/#%=;.](?:com|org|net|edu|example|de|fr|uk)(?!\w)"),
            _any_case(rf"[\w.+-]{{1,64}}{_AT}{_LABEL}(?:{_DOT}|{_SPOKEN_DOT}){_LABEL}"),
            _any_case(rf"[\w.+-]{{1,64}}{_SPOKEN_AT}{_LABEL}(?:{_SPOKEN_DOT}|\s?[\[({{]\s?dot\s?[\])}}]\s?){_LABEL}"),
        ),
    ),
    PatternRecognizer(
        "ACCOUNT",
        "an account",
        (
            re.compile(r"(?<![\w@])@[^\W\d_]\w"),
            _any_case(rf"(?<![^\W_])(?:{_NETWORK})\s{{0,2}}[:=/]\s{{0,2}}@?\w"),
            _any_case(rf"(?<![^\W_])(?:{_NETWORK})\s{{1,2}}@?[^\W\d_][\w.]{{0,30}}?[\d_.]\w"),
            re.compile(r"\w#\d{4}(?!\d)"),
        ),
    ),
    PatternRecognizer(
        "URL",
        "a link",
        (
            _any_case(
                r"\b(?:[a-z][a-z0-9+]{1,9}://|www\.)\S|(?<![\w-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[a-z]{2,24}/\w"
                r"|\w\.(?:com|org|net|edu|gov|info|biz|io|eth|app|dev|co\.uk|de|fr|ru|cn|jp|nl|pl|example)(?!\w)"
                r"|\w\s{0,2}[\[({]?\s?dot\s?[\])}]?\s{0,2}(?:com|org|net|edu|gov|info|biz|io|example)(?!\w)"
            ),
        ),
    ),
    PatternRecognizer(
        "FILE_NAME",
        "a file name",
        (
            _any_case(
                r"[\w)]\.(?:jpe?g|png|gif|webp|tiff?|bmp|hei[cf]|avif|dng|nef|cr[23w]|arw|raw|mp4|mov|pdf|docx?|xlsx?"
                r"|pptx?|csv|zip|txt)(?![^\W_])"
            ),
            _any_case(rf"(?<![^\W_])(?:{_CAMERA})[_-]?\d{{4}}|(?<!\w)P\d{{7}}(?!\d)"),
        ),
    ),
    PatternRecognizer(
        "FILE_PATH", "a path", (re.compile(r"(?:[A-Za-z]:[\\/]|\\\\|~?/)[\w.-]{1,255}[/\\]|(?<!\S)~?/\w"),)
    ),
    PatternRecognizer(
        "IP_ADDRESS",
        "an IP address",
        (
            re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
            _any_case(r"(?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"),
            _any_case(r"(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:])|(?<![\w:])::[0-9a-f]{1,4}"),
            _any_case(r"(?<![\w:])(?:[0-9a-f]{1,4}:){2,7}:(?![\w:])"),
        ),
        of_tokens=True,
    ),
    PatternRecognizer(
        "MAC_ADDRESS",
        "a MAC address",
        (
            _any_case(r"(?<![\w:-])[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}(?![0-9a-z])"),
            _any_case(r"(?<![\w.])[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(?![\w.])"),
            _any_case(r"(?<![^\W_])[0-9a-f]{2}(?: [0-9a-f]{2}){5}(?![^\W_])"),
            _any_case(r"(?<!\w)(?:mac|bssid|wlan)\W{1,3}(?=[0-9a-f]{0,11}\d)[0-9a-f]{12}(?!\w)"),
        ),
        of_tokens=True,
    ),
    PatternRecognizer("DATE_TIME", "a date", DATE_PATTERNS),
    PatternRecognizer(
        "COORDINATES",
        "coordinates",
        (
            re.compile(
                r"-?\d{1,3}[.,]\d{3,15}\s*[,;/\s]\s*-?\d{1,3}[.,]\d{3}"
                r"|-?\d{1,3}\.\d{2,15}\s{0,3}[,;/ ]\s{0,3}-?\d{1,3}\.\d{2}"
                r"|\d{1,3}\.\d{1,15}\s{0,3}[,;/ ]\s{0,3}-\d{1,3}\.\d"
                r"|\d{1,3}(?:[.,]\d{1,15})?\s*[°º˚]\s*(?:\d{1,2}(?:[.,]\d{1,15})?\s*['′’‘´]|[NSEWO](?!\w))"
                r"|\d{1,3}[.,]\d{1,15}\s*[°º˚]?\s*[NSEWO](?!\w)|\d{1,3}\s\d{1,2}\s\d{1,2}(?:[.,]\d{1,15})?\s?[NSEWO](?!\w)"
            ),
            _any_case(
                r"(?<![^\W_])(?:lat|latitude|lon|lng|longitude|gps|utm|mgrs|широта|долгота|纬度|经度)\W{0,4}-?\d"
            ),
            re.compile(r"(?<!\w)[23456789CFGHJMPQRVWX]{4,8}\+[23456789CFGHJMPQRVWX]{2,3}(?!\w)"),
            re.compile(
                r"(?<!\w)[NS]\s?\d{1,3}[.,]\d|\d{1,3},\d{2,15}\s{1,2}-\d{1,3},\d{2}|-\d{1,3},\d{2,15}\s{1,2}\d{1,3},\d{2}"
            ),
            _any_case(r"(?<![^\W_])(?:geo|maps?):\s?-?\d|(?<![^\W_])(?:geohash|maidenhead|plus code)\W{1,3}\w"),
            re.compile(r"(?<!\w)\d{1,3}\s?d\s?\d{1,2}\s?m(?!\w)|(?<!\w)\d{1,3}d\d{1,2}m\d"),
            _any_case(r"\d\s?(?:deg(?:rees?)?|grad|degrés)\.?\s(?:\d{1,2}\s?min|north|south|east|west|[nsewo](?!\w))"),
            re.compile(r"(?<!\w)[A-R]{2}\d{2}[a-x]{2}(?!\w)"),
            _any_case(r"what3words\W{1,3}\w{2,30}\.\w"),
            re.compile(r"///\w{2,30}\.\w{2,30}\.\w{2,30}"),
            re.compile(r"(?<!\w)\d{1,2}[C-HJ-NP-X][ ]?[A-HJ-NP-Z]{2}[ ]?\d{2,5}[ ]?\d{2,5}(?!\w)"),
        ),
    ),
    PatternRecognizer("ADDRESS", "an address", ADDRESS_PATTERNS),
    PatternRecognizer(
        "CREDIT_CARD",
        "a card number",
        (
            re.compile(
                r"(?<![\d.])\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}(?!\d)|(?<!\d)3[47]\d{2}[ -]?\d{6}[ -]?\d{5}(?!\d)"
            ),
        ),
        of_tokens=True,
    ),
    PatternRecognizer(
        "IBAN_CODE",
        "an account number",
        (re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?!\w{5})"),),
        of_tokens=True,
    ),
    # Digits behind a letter do not count, unless there are seven in a row; n02085936 is a WordNet synset.
    PatternRecognizer(
        "PHONE_NUMBER",
        "a long number",
        (
            re.compile(
                r"(?<![^\W_])(?<!\.)\+?\d(?:[ ()./_·•:~*|-]{0,3}\d){6}|(?<![\d.])(?!(?<=(?<![^\W_])n)\d{8}(?!\d))\d{7}"
            ),
            _any_case(rf"(?<![^\W_])(?:(?:{_DIGIT_WORD})[\s.,-]{{1,3}}){{5}}(?:{_DIGIT_WORD})(?![^\W_])"),
            re.compile(
                r"(?:[〇零一二三四五六七八九壹贰叁肆伍陆柒捌玖幺][\s.,-]{0,2}){6}[〇零一二三四五六七八九壹贰叁肆伍陆柒捌玖幺]"
            ),
            re.compile(r"(?<![^\W_])\d{3,6}[xX]\d{3}[xX]?\d{2,6}(?![^\W_])|(?<![^\W_])0\d{2,5}[xX]\d{5,8}(?![^\W_])"),
            _any_case(rf"(?<![^\W_])(?:{_PHONE_WORD})[\s.:#(+]{{0,4}}\d(?:[ ()./-]{{0,2}}\d){{3}}"),
        ),
        of_tokens=True,
    ),
    PatternRecognizer(
        "LICENSE_PLATE",
        "a licence plate",
        (
            re.compile(r"(?<!\w)[A-Z]{2}[ -]?\d{2}[ -]?[A-Z]{3}(?!\w)|(?<!\w)[a-z]{2}\d{2}[a-z]{3}(?!\w)"),
            re.compile(r"(?<!\w)[A-ZÄÖÜ]{1,3}(?:-[A-Z]{1,2}[ -]?\d{1,4}|[ ][A-Z]{1,2}[ ]?\d{3,4})[EH]?(?!\w)"),
            re.compile(r"(?<!\w)[A-Z]{2}[ -]?\d{3}[ -]?[A-Z]{2}(?!\w)|(?<!\w)\d{4}[ -]?[B-DF-HJ-NP-TV-Z]{3}(?!\w)"),
            re.compile(r"(?<!\w)\d{2}-[A-Z]{2,3}-\d{1,2}(?!\w)|(?<!\w)[A-Z]{2}-\d{3}-[A-Z](?!\w)"),
            re.compile(r"(?<!\w)(?!ISO|EOS|DIN|USB|RAL)[A-Z]{3}[ -]?\d{4}(?!\w)|(?<!\w)\d-?[A-Z]{3}-?\d{3}(?!\w)"),
            re.compile(
                r"(?<!\w)[A-Z]{2}[ -]?\d{1,2}[ -]?[A-Z]{1,2}[ -]?\d{4}(?!\w)"
                r"|(?<!\w)(?!ISO|EOS)[A-Z]{1,3}[ -]\d{5,6}[A-Z]?(?!\w)"
            ),
            re.compile(rf"(?<!\w){_PLATE_RU}\s?\d{{3}}\s?{_PLATE_RU}{{2}}(?:\s?\d{{2,3}})?(?!\w)"),
            re.compile(r"(?<!\w)[авекмнорстух]\d{3}[авекмнорстух]{2}\d{0,3}(?!\w)"),
            re.compile(rf"{_PLATE_CN}[A-Z][·. -]?[A-Z0-9]{{5,6}}(?!\w)"),
            re.compile(r"\d{2,3}\s?[\u3041-\u3096]\s?\d{1,2}-?\d{2}|\d{2,3}\s?[가-힣]\s?\d{4}"),
            re.compile(
                r"(?<!\w)\d{2}\s?[\u0621-\u06cc]{1,3}\s?\d{3}(?!\d)|[\u0621-\u064a](?: [\u0621-\u064a]){2} \d{1,4}"
            ),
            re.compile(
                r"(?<![^\W_])(?i:(?:number|licen[cs]e|registration)[ -]?plates?|plates?|reg(?:istration)?(?: no)?"
                r"|kennzeichen|immatriculation|matr[ií]cula|targa|kenteken|номер|госномер|车牌|車牌|ナンバー|پلاک)"
                r"[\s:.#]{1,4}(?=[\w-]{0,8}\d|[A-Z]{1,3} \d)[^\W_][\w-]"
            ),
        ),
        score=0.5,
        of_tokens=True,
    ),
    PatternRecognizer(
        "ID",
        "an identifier",
        (
            _any_case(
                rf"(?<![^\W_])(?:{_NUMBER_WORD})\s{{0,2}}(?:no|nr|number|num|id|n°|№|#)?[\s.:#]{{0,3}}"
                r"(?=[a-z0-9-]{0,12}\d)[a-z0-9-][a-z0-9 -]{2,6}[a-z0-9]"
            ),
            _any_case(r"(?<![^\W_])(?:id|№)\s{0,2}(?:no|nr|number)?[\s.:#]{0,3}\d{4}"),
            re.compile(
                r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)|(?<!\w)bc1[a-z0-9]{8}"
                r"|(?<!\w)[A-CEGHJ-PR-TW-Z]{2} ?(?:\d{2} ?){3}[A-D](?!\w)"
            ),
        ),
        of_tokens=True,
    ),
    PatternRecognizer(
        "PERSON",
        "a person's name",
        (
            re.compile(rf"(?<!\w)(?:{_TITLE})\.?\s{{1,2}}(?:[A-Z]\.\s?){{0,2}}[A-Z\u00c0-\u00de]\w"),
            _any_case(
                r"(?<![^\W_])(?:first|last|full|given|family|sur|nick|user|maiden)?[ _-]?(?:name|nom|nombre|nome|имя)"
                r"[\"']?\s?[:=]\s?[\"']?[^\W\d_]"
            ),
            re.compile(r"(?<![^\W_])(?:[^\W\d_][\s.·_-]{1,2}){4}[^\W\d_](?![^\W_])"),
        ),
    ),
)


def find_entities(text: str, recognizers: Sequence[PatternRecognizer] = RECOGNIZERS) -> list[Entity]:
    """What the recognizers find in a text, as `plain_text.plain` writes it, in their order."""
    return [entity for recognizer in recognizers for entity in recognizer.analyze(text)]
