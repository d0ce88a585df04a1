"""Street addresses and postcodes by their form, in the languages of Europe and Asia.

A street is known by its word for "street" with a number beside it, or in English and German by a capital before that
word. Not recognised: an address without a number, a house with a name, a town alone; those need a model.
"""

import re

_CAPITAL = "[A-Z\u00c0-\u00de\u0141\u015a\u0179\u017b\u0106\u010c\u0160\u017d]"
_NUMBER = r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_NAMED = r"(?:[^\W\d_][\w'.-]{0,30}[\s,]{1,2})"
_STREET = (
    r"street|road|lane|avenue|drive|crescent|terrace|boulevard|parkway|highway|alley|mews|st|rd|ln|ave|dr|cres|blvd|hwy"
)
_PLACE = (
    r"court|close|square|place|way|row|gardens|hill|grove|walk|park|green|view|wharf|quay|ct|sq|pl|circle|loop|trail"
)
_TEENS = (
    r"eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
    r"|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
    r"(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?"
)


def _word(text: str) -> str:
    return rf"(?<![^\W_])(?:{text})(?![^\W_])"


ADDRESS_PATTERNS: tuple[re.Pattern[str], ...] = (
    # 14 Oak Lane; 221B Baker St; one lower-case word at most, since "2 people crossing a busy street" is none
    re.compile(
        rf"(?<![\w.]){_NUMBER},?\s{{1,2}}(?:{_CAPITAL}[\w'.-]{{0,30}}\s{{1,2}}|(?:of|the|and|la|de)\s){{1,4}}"
        rf"(?i:{_STREET}|{_PLACE})(?!\w)"
    ),
    re.compile(
        rf"(?<![\w.]){_NUMBER},?\s(?!lane|way|wheel|door|seat|car|busy|wide|long)[a-z'.-]{{2,30}}\s(?:{_STREET})(?!\w)"
    ),
    re.compile(
        rf"(?<!\w){_CAPITAL}[\w'-]{{1,30}}\s(?:Street|Road|Lane|Avenue|Drive|Crescent|Terrace|Boulevard|Parkway)(?!\w)"
    ),
    re.compile(r"(?i)(?<!\w)(?:p\.?\s?o\.?\s?box|postfach|apartado|casilla|boite postale|b\.p\.|а/я)\s{0,2}\d"),
    re.compile(r"(?i)(?<!\w)(?:flat|apartment|apt\.?|suite|unit)\s{1,2}#?\d{1,4}[a-z]?,\s"),
    # Lange Straße 5, Hauptstr. 12, Unter den Linden 77
    re.compile(
        r"(?i)(?<!\w)[^\W\d_][\w-]{1,30}(?:stra(?:ß|ss)e|str\.?|weg|allee|gasse|platz|ufer|damm|straat|laan|plein|gracht"
        r"|kade|gatan|vägen|veien|gata|gaten|vej|gade|tie|katu)\s{1,2}\d{1,4}"
    ),
    re.compile(
        rf"(?<!\w){_CAPITAL}[\w-]{{1,30}}\s(?:Stra(?:ß|ss)e|Str\.|Weg|Allee|Gasse|Platz|Ring|Ufer|Damm)\s{{1,2}}\d{{1,4}}"
        rf"|(?<!\w)(?:Stra(?:ß|ss)e|Allee|Platz)\s(?:der|des|am|zum|zur)\s.{{1,40}}?\d{{1,4}}"
        rf"|(?<!\w)(?:Am|An der|Auf der|Auf dem|Im|In der|Unter den|Zum|Zur)\s"
        rf"(?:{_CAPITAL}[\w-]{{1,30}}\s){{1,2}}\d{{1,4}}(?!\w)"
    ),
    re.compile(rf"(?<!\w)(?:[A-Z]{{1,2}}-)?\d{{5}}\s{_CAPITAL}[a-zà-ÿ]{{2,30}}"),
    # 12 bis, rue de la Paix
    re.compile(
        rf"(?i)(?<![\w.])\d{{1,4}}(?:\s?(?:bis|ter|quater))?,?\s(?:rue|avenue|av\.?|boulevard|bd|place|allée|allee|chemin"
        rf"|impasse|quai|cours|route|passage|ruelle|faubourg)\s\w|(?<!\w)rue\s(?:{_NAMED}){{1,5}}\d{{1,4}}(?!\w)"
    ),
    # via Garibaldi 12; calle de Alcalá, 42; rua Augusta nº 10
    re.compile(
        rf"(?<!\w)\d{{1,4}},?\s[Vv]ia(?:le)?\s[A-Z]|(?<!\w)[Vv]ia(?:le)?\s(?:[a-z]{{2,6}}\s){{0,2}}{_CAPITAL}[\w'-]{{1,30}}(?:\s[\w'.-]{{1,30}}){{0,3}},?\s(?:n\.?\s?)?\d{{1,4}}"
    ),
    re.compile(
        r"(?i)(?<!\w)(?:piazza(?:le)?|corso|vicolo|largo|calle|c/|avenida|avda\.?|paseo|carrera|camino|plaza|ronda|rua|travessa"
        r"|praça|praca|alameda|rodovia|estrada|strada|bulevardul|jalan|jl\.|carrer|via)\s{0,2}"
        r"(?:[^\W\d_][\w'.ªº-]{0,30}[\s,]{1,2}){1,5}(?:n[.ºo°]{0,2}\s?|no\.?\s?)?\d{1,5}(?!\w)"
    ),
    re.compile(
        r"(?i)(?<!\w)(?:calle|cl\.?|carrera|cra\.?|avenida|av\.?|transversal)\s\d{1,3}[a-z]?\s?(?:#|n[o°º]\.?)\s?\d"
    ),
    # ul. Marszałkowska 5; ulice, utca, sokak, οδός
    re.compile(
        rf"(?i)(?<!\w)(?:ul\.|ulica|ulice|ulitsa|ulitza|prospekt|pereulok|al\.|os\.|nám\.|rynek|plac|aleja|náměstí|trg)\s?(?:{_NAMED}){{1,4}}(?:d\.?\s?|nr\.?\s?)?\d{{1,4}}"
    ),
    re.compile(
        r"(?i)(?<!\w)[^\W\d_][\w-]{1,30}\s(?:utca|út|tér|krt\.?|ulitsa|prospekt|pereulok|sokak|sokağı|sok\.|caddesi|cad\.|mahallesi|mah\.|ulica|ulice)"
        r"[\s,]{0,3}(?:no[.:]?\s?)?\d{1,4}|(?<!\w)(?:strada|str\.|bd\.)\s(?:[^\W\d_][\w-]{1,30}\s){1,4}(?:nr\.?\s?)?\d{1,4}"
    ),
    re.compile(r"(?i)(?<!\w)(?:οδός|οδος|λεωφόρος|λεωφ\.?|πλατεία)\s\w|(?<!\w)(?:đường|phố|ngõ|ngách|quận|phường)\s\w"),
    # ул. Ленина, д. 5; Тверская улица 7; вул. Хрещатик, 1
    re.compile(
        rf"(?i)(?<!\w)(?:ул\.?|улица|улице|улицы|вул\.?|вулиця|просп\.?|проспект|пр-к?т|пр\.|пер\.|переулок|пл\.|площадь|наб\.?|набережная"
        rf"|бул\.?|бульвар|шоссе|проезд)\s?(?:{_NAMED}){{1,4}}(?:д(?:ом)?\.?\s?|буд\.?\s?|№\s?)?\d{{1,4}}"
        rf"|(?<!\w)[^\W\d_][\w-]{{2,30}}\s(?:ул\.?|улица|улице|вулиця|проспект|пр\.|пр-к?т|переулок|площадь|бульвар|шоссе|набережная)[\s,]{{0,3}}"
        r"(?:д(?:ом)?\.?\s?|буд\.?\s?)?\d{1,4}|(?<!\w)(?:д|дом|кв|корп)\.\s?\d{1,4}"
    ),
    re.compile(
        r"(?:شارع|طريق|خیابان|خيابان|کوچه|بلوار|میدان|רחוב|שדרות|שד׳|דרך|सड़क|मार्ग|गली|मोहल्ला|ถนน|ซอย|หมู่บ้าน)\s?\S"
    ),
    # 朝阳区建国路88号; 渋谷区神南1丁目2-3; 세종대로 110
    re.compile(
        r"[\u4e00-\u9fff]{1,12}(?:路|街|道|巷|弄|胡同|大道)\s?\d{1,5}\s?(?:号|號|弄|室|之)?|[\u4e00-\u9fff]{1,8}(?:省|市|区|區|縣|县|鎮|镇)"
        r"[\u4e00-\u9fff]{1,8}(?:路|街|道|村|区|區|町|村)|\d{1,5}\s?(?:号楼|號樓|号院|室|单元)"
    ),
    re.compile(
        r"\d{1,3}\s?丁目|\d{1,4}\s?番地|[\u4e00-\u9fff]{1,6}[都道府県市区町村][\u3040-\u9fff]{1,10}\d{1,3}-\d{1,3}|〒\s?\d"
    ),
    re.compile(
        r"[가-힣]{1,12}(?:로|길)\s?\d{1,4}(?:번길|\s|$|-|,)|[가-힣]{1,10}(?:동|읍|면)\s?\d{1,4}(?:-\d{1,4})?번지|[가-힣]{1,5}(?:시|도)\s?[가-힣]{1,5}(?:구|군)\s"
    ),
    # LS1 4DY; K1A 0B1
    re.compile(
        r"(?i)(?<![^\W_])[a-z]{1,2}\d[a-z\d]?\s\d[abd-hjlnp-uw-z]{2}(?![^\W_])|(?<![^\W_])[A-Z]\d[A-Z]\s?\d[A-Z]\d(?![^\W_])"
    ),
    # SW1A1AA; postcode 1010; zip: 90210
    re.compile(r"(?<!\w)[A-Z]{1,2}\d[A-Z\d]?\d[ABD-HJLNP-UW-Z]{2}(?!\w)"),
    re.compile(
        r"(?i)(?<![^\W_])(?:post ?codes?|postal codes?|zip(?: ?codes?)?|plz|code postal|cap|cep)[\s:#.]{1,3}\d{4}"
    ),
    # Fourteen Elm Street; flat 4 elm house
    re.compile(
        rf"(?i)(?<![^\W_])(?:{_TEENS}),?\s(?:[a-z'.-]{{2,30}}\s)(?:{_STREET})(?!\w)"
        rf"|(?<!\w)[a-z'-]{{2,30}}\s(?:street|road|lane|avenue)\s(?:number\s)?(?:{_TEENS})(?!\w)"
    ),
    re.compile(
        r"(?i)(?<!\w)(?:flat|apartment|apt\.?|suite)\s{1,2}#?\d{1,4}[a-z]?\s\w{2,30}\s(?:house|court|lodge|tower)"
    ),
)
