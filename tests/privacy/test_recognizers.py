"""What the patterns recognise in a text, kind by kind and in many languages, and what they leave alone."""

import time

import pytest

from u2s_datasets.privacy import identifying_text
from u2s_datasets.privacy.plain_text import plain
from u2s_datasets.privacy.recognizers import RECOGNIZERS, find_entities

TELLING = {
    "EMAIL_ADDRESS": [
        "anna|example|org",
        "anna {at} gmail",
        "anna on gmail com",
        "gmail: anna.h",
        "m.hollis@mail.example",
        "m.hollis (at) mail.example",
        "m.hollis [at] mail [dot] example",
        "m.hollis{at}mail.example",
        "hollis at mail dot example",
        "HOLLIS AT MAIL DOT EXAMPLE",
        "m.hollis AT mail dot example.co",
        "m_hollis @ mail . example",
        "ｍ．ｈｏｌｌｉｓ＠ｍａｉｌ．ｅｘａｍｐｌｅ",
        "m.hollis (ät) mail.example".replace("ät", "ä"),
        "иван собака почта точка рф",
    ],
    "PHONE_NUMBER": [
        "seven seven zero zero nine zero zero",
        "call oh two oh, seven nine four six",
        "drei vier null acht sieben zwei",
        "零七九四六零一八",
        "07946x018273",
        "call +44 20 7946 0018",
        "０２０−７９４６−００１８",
        "020·7946·0018",
        "0 2 0 7 9 4 6",
        "٠٢٠٧٩٤٦٠٠١٨",
        "०२०७९४६००१८",
        "tel 79460",
        "тел. 79-46-00",
        "电话 7946001",
        "㉂ ①②③④⑤⑥⑦",
    ],
    "IP_ADDRESS": [
        "192.168.0.12",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "2001:db8::8a2e:370:7334",
        "fe80::1ff:fe23:4567:890a",
        "at a1b2:c3d4::1",
        "2001:db8:1::",
        "::ffff",
    ],
    "MAC_ADDRESS": [
        "00:1A:2B:3C:4D:5E",
        "00-1a-2b-3c-4d-5e",
        "f0:de:f1:aa:bb:cc",
        "001a.2b3c.4d5e",
        "de ad be ef 00 01",
        "MAC: 001a2b3c4d5e",
    ],
    "API_KEY": [
        "k3x9q2z8",
        "1y2p0ij32e8e7",
        "a3f9c2e1",
        "u2edk8",
        "TWFyZ2FyZXQ=",
        "sk-proj-abcdEFGH1234",
        "sk-ant-api03-xyzXYZ",
        "sk_live_4eC39HqLyjWD",
        "ghp_16C7e42F292c6912E7",
        "github_pat_11ABCDE",
        "hf_abcdefghij",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "xoxb-17653672481",
        "AIzaSyA1234567890",
        "Xk9fQ2mZ7pL4vB8w",
        "-----BEGIN PRIVATE KEY-----",
        "ssh-ed25519 AAAAC3",
        "password: hunter2",
        "пароль: солнце",
    ],
    "ACCOUNT": ["insta: m.hollis1961", "IG @m_hollis", "telegram: hollis", "вк: hollis", "微信: hollis", "by @alice"],
    "URL": ["hollis.example/about", "www.hollis.example", "hollis dot com", "hollis [dot] org"],
    "FILE_NAME": ["DSC_0042", "IMG_2041", "IMG2041", "P1010023", "hollis_1961.jpg", "scan.pdf", "letter.docx"],
    "DATE_TIME": [
        "2021-W10-3",
        "2021W103",
        "the third of March",
        "on March the twenty-first",
        "born in nineteen ninety",
        "twenty twenty-one",
        "born 3 March 1961",
        "родился 3 марта 1961",
        "1961 г.р.",
        "3 марта",
        "3 березня 1961",
        "1961年3月3日",
        "３月３日",
        "一九六一年三月三日",
        "昭和36年",
        "1961년 3월 3일",
        "٣ مارس ١٩٦١",
        "۳ اسفند ۱۳۳۹",
        "3 במרץ 1961".replace("במרץ", "מרץ"),
        "3 मार्च 1961",
        "3 มีนาคม 2504",
        "3. März 1961",
        "am 3. Jänner",
        "le 3 août 1961",
        "12 de marzo de 1961",
        "3 de dezembro de 1961",
        "3 maggio 1961",
        "3 maart 1961",
        "3 marca 1961",
        "3. března 1961",
        "1961. március 3",
        "3 Mart 1961",
        "3 Μαρτίου 1961",
        "3. maaliskuuta 1961",
        "3 Maret 1961",
        "March, 1961",
        "3rd of Mar. 1961",
        "3/3/1961",
        "3 . 3 . 1961",
        "03 03 1961",
        "1961−03−03",
        "geboren 1961",
        "née en 1961",
        "b. 1961",
    ],
    "COORDINATES": [
        "geo:48.2,16.4",
        "48d12m30s N",
        "48 deg 12 min north",
        "JN88ee",
        "geohash u2ed",
        "51.5074, -0.1278",
        "51.51 -0.13",
        "51.5, -0.1",
        "51.5° N",
        "51.5N 0.1W",
        "lat 51",
        "широта 55",
        "9C3XGV5C+2Q",
        "///filled.count.soap",
        "30U XC 9931 1016",
    ],
    "ADDRESS": [
        "SW1A1AA",
        "postcode 1010",
        "zip: 90210",
        "fourteen elm street",
        "elm street fourteen",
        "flat 4 elm house",
        "14 Oak Lane, Leeds LS1 4DY",
        "14 oak lane",
        "221B Baker Street",
        "10 Downing St",
        "350 Fifth Avenue",
        "a house in Oak Lane",
        "P.O. Box 12",
        "ls1 4dy",
        "K1A 0B1",
        "Hauptstraße 12",
        "Lange Strasse 5a",
        "Unter den Linden 77",
        "D-10115 Berlin",
        "12 rue de la Paix",
        "3 bis, avenue Foch",
        "via Garibaldi 12",
        "Piazza del Popolo 3",
        "calle de Alcalá, 42",
        "Avenida Paulista, 1578",
        "Rua Augusta 10",
        "Keizersgracht 123",
        "Drottninggatan 5",
        "ul. Marszałkowska 5",
        "Kossuth utca 5",
        "Istiklal Caddesi 12",
        "οδός Ερμού 12",
        "ул. Ленина, д. 5",
        "улица Ленина 5",
        "Тверская улица 7",
        "вул. Хрещатик, 1",
        "ulitsa Lenina 5",
        "朝阳区建国路88号",
        "渋谷区神南1丁目",
        "세종대로 110",
        "شارع التحرير 5",
        "רחוב הרצל 5",
        "Jalan Sudirman 12",
    ],
    "CREDIT_CARD": ["4111 1111 1111 1111", "3782-822463-10005"],
    "IBAN_CODE": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"],
    "LICENSE_PLATE": [
        "plate AB12 CDE",
        "AB12CDE",
        "ab12cde",
        "B-AB 1234",
        "M AB 1234",
        "AA-123-BB",
        "1234 BCD",
        "ABC 1234",
        "7ABC123",
        "А123ВС77",
        "京A12345",
        "さ 12-34".replace("さ", "12 さ"),
        "12 ب 345",
        "KA 01 AB 1234",
        "Kennzeichen XY 99",
        "номер К777",
    ],
    "ID": ["passport X1234567", "NHS no 943 476", "123-45-6789", "QQ 12 34 56 C".replace("QQ", "AB"), "паспорт 4509"],
    "PERSON": [
        '{"name": "Anna"}',
        "name=anna;city=wien",
        "M.a.r.g.a.r.e.t",
        "M a r g a r e t",
        "Mr Hollis",
        "Dr. Alice Smith",
        "Frau Müller",
        "Mme Curie",
        "Prof. M. Hollis",
    ],
}


@pytest.mark.parametrize(("entity", "text"), [(kind, text) for kind, texts in TELLING.items() for text in texts])
def test_each_kind_is_recognised(entity, text):
    assert entity in {found.entity_type for found in find_entities(plain(text))} | _without_accents(text)
    assert identifying_text.withhold_texts(f"a photo, {text}", []) == (None, 1)


def _without_accents(text):
    return {found.entity_type for found in find_entities(identifying_text.without_accents(plain(text)))}


@pytest.mark.parametrize(
    "text",
    [
        "a golden retriever on grass",
        "a tabby cat in Paris",
        "two people crossing a busy street",
        "a man at the beach. Then home",
        "look at this. then go",
        "a photo of 12 apples and 7 pears",
        "Boeing 737-800 at gate A12",
        "Ferrari 458 Italia Coupe 2012",
        "24-70mm f/2.8 at ISO 1600",
        "he is 20 years old",
        "10 000 people on a square",
        "1920x1080 pixels",
        "a plate of pasta, a plate with 3 eggs",
        "iPhone 14 Pro, Windows 11, Apollo 11",
        "1080p60fps video, 4x4x4 cube, 1920x1080x3",
        "one two three, and a second of silence",
        "flags of 🇩🇪 🇫🇷 and 🇯🇵 at the 🅿️ sign",
        "the U.S.A. and an image of 3 cats",
        "a 3 lane road and a 4x4 car",
        "bus number 42 in room 101",
        "MNIST digit 7 of 10",
        "75% off, 12 dollars each",
        "call me maybe, with a ring of 5 keys",
        "5 park benches and 3 green apples",
        "собака на траве, 2 кошки",
        "一只猫坐在沙发上",
        "2匹の犬が走っている",
        "강아지 2마리",
        "ein Hund auf der Wiese",
        "un chien dans la rue",
        "قطة على الأريكة",
        "a cat ❤️ a dog 👨‍👩‍👧",
    ],
)
def test_captions_that_identify_nobody_pass(text):
    assert identifying_text.withhold_texts(text, []) == (text, 0)


def test_results_are_presidios():
    entity, *_ = find_entities("write to m@mail.example now")
    assert (entity.entity_type, entity.score) == ("EMAIL_ADDRESS", 0.85)
    assert "write to m@mail.example now"[entity.start : entity.end] == "m@mail.e"
    assert len({recognizer.entity for recognizer in RECOGNIZERS}) == len(RECOGNIZERS) >= 19


PIECES = ["a", "1 ", "a.", "at ", "1 Aa ", "::", "a@", "(at)", "улица ", "路1", "one ", "aA=", "a|", "零"]


@pytest.mark.parametrize("piece", PIECES)
def test_time_grows_as_the_text_does(piece):
    def seconds(size):
        text = (piece * size)[:size]
        started = time.process_time()
        for recognizer in RECOGNIZERS:
            for _ in zip(recognizer.analyze(text), range(3), strict=False):
                pass
        return time.process_time() - started

    short, long = min(seconds(1_500) for _ in range(3)), min(seconds(12_000) for _ in range(2))
    assert long < 24 * short + 0.01  # eight times as long; a square would be 64 times
