"""Answers of models in the shapes they come in: what is understood, and what never passes for safe."""

import contextlib
import json
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts import CUT
from u2s_datasets.stages import answers
from u2s_datasets.stages.answers import FORM, ReviewItem, parse_caption

SAYS_FALSE = [
    "FALSE",
    "False",
    "false",
    "FALSE.",
    "  FALSE\n",
    "**FALSE**",
    "**FALSE**.",
    "***FALSE***",
    "`FALSE`",
    '"FALSE"',
    "“FALSE”",
    "[FALSE]",
    "<FALSE>",
    "- FALSE",
    "PRIVACY_FLAG: FALSE",
    "PRIVACY_FLAG: FALSE.",
    "PRIVACY_FLAG:FALSE",
    "PRIVACY_FLAG : FALSE",
    "PRIVACY_FLAG = FALSE",
    "PRIVACY_FLAG：FALSE",
    "PRIVACY_FLAG: FALSE。",
    "PRIVACY_FLAG -> FALSE",
    "PRIVACY_FLAG\nFALSE",
    "privacy_flag: false",
    "Privacy Flag: False",
    "The privacy flag is FALSE.",
    "**PRIVACY_FLAG: FALSE**",
    "**PRIVACY_FLAG:** FALSE",
    "**PRIVACY_FLAG**: FALSE",
    "**PRIVACY_FLAG:** **FALSE**",
    "**PRIVACY_FLAG: FALSE.**",
    "* **PRIVACY_FLAG:** FALSE",
    "1. PRIVACY_FLAG: FALSE",
    "`PRIVACY_FLAG`: `FALSE`",
    "`PRIVACY_FLAG: FALSE`",
    "__PRIVACY_FLAG__: FALSE",
    "PRIVACY_FLAG: [FALSE]",
    "[PRIVACY_FLAG: FALSE]",
    "[PRIVACY_FLAG]: FALSE",
    "PRIVACY_FLAG: <FALSE>",
    "### PRIVACY_FLAG\nFALSE",
    "## PRIVACY_FLAG: FALSE",
    "SECTION: PRIVACY_FLAG\n---\nPRIVACY_FLAG: FALSE",
    "SECTION: PRIVACY_FLAG\n**PRIVACY_FLAG: FALSE**",
    "Answer: PRIVACY_FLAG: FALSE",
    "**Final answer:** FALSE",
    "The answer is FALSE",
    "assistant\nPRIVACY_FLAG: FALSE",
    "<answer>FALSE</answer>",
    "<PRIVACY_FLAG>FALSE</PRIVACY_FLAG>",
    "```\nPRIVACY_FLAG: FALSE\n```",
    '```json\n{"PRIVACY_FLAG": false}\n```',
    '{"PRIVACY_FLAG": false}',
    '{"PRIVACY_FLAG": "FALSE"}',
    '{\n  "privacy_flag": false\n}',
    "{'privacy_flag': False}",
    "<think>\n\n</think>\n\nPRIVACY_FLAG: FALSE",
    "<think>No people; TRUE only in doubt; so FALSE.</think>FALSE",
    "PRIVACY_FLAG: FALSE<|im_end|>",
    "PRIVACY_FLAG: FALSE</s>",
]
SAYS_TRUE = [
    *(answer.replace("FALSE", "TRUE").replace("False", "True").replace("false", "true") for answer in SAYS_FALSE),
    "PRIVACY_FLAG: TRUE\nPRIVACY_FLAG: TRUE",
    "PRIVACY_FLAG: TRUE\n\nA face can be seen on the left, and a plate may be legible.",
    "PRIVACY_FLAG: TRUE - there is a face",
    "PRIVACY_FLAG: TRUE (a face)",
    "**TRUE** because of a face",
    "A man stands at a bar, so PRIVACY_FLAG: TRUE",
    '{"PRIVACY_FLAG": true, "reason": "a face"}',
    '```json\n{\n  "PRIVACY_FLAG": true,\n  "reason": "a face"\n}\n```',
    "I'm sorry, I cannot name this person. PRIVACY_FLAG: TRUE",
    "<think>FALSE?</think>PRIVACY_FLAG: TRUE",
]
CONTRADICTORY = [
    "TRUE or FALSE",
    "TRUE/FALSE",
    "TRUE FALSE",
    "PRIVACY_FLAG: TRUE or PRIVACY_FLAG: FALSE",
    "PRIVACY_FLAG: [TRUE/FALSE]",
    "PRIVACY_FLAG: TRUE\nPRIVACY_FLAG: FALSE",
    "PRIVACY_FLAG: FALSE\nPRIVACY_FLAG: TRUE",
    "PRIVACY_FLAG: FALSE\nPRIVACY_FLAG: FALSE",
    "FALSE FALSE FALSE FALSE",
    "FALSE... actually TRUE",
    '{"PRIVACY_FLAG": false, "PRIVACY_FLAG": true}',
    '{"PRIVACY_FLAG": [true, false]}',
    '{"PRIVACY_FLAG": false, "reason": "a face is visible"}',
    '{"PRIVACY_FLAG": false, "confidence": 0.2}',
    "<think>A face. So TRUE.</think>FALSE",
]
NOT_A_FALSE = [
    "not FALSE",
    "PRIVACY_FLAG: not FALSE",
    "PRIVACY_FLAG is not FALSE",
    "PRIVACY_FLAG isn't FALSE",
    "PRIVACY_FLAG != FALSE",
    "PRIVACY_FLAG ≠ FALSE",
    "PRIVACY_FLAG <> FALSE",
    "!FALSE",
    "~FALSE",
    "¬FALSE",
    "~~FALSE~~",
    "PRIVACY_FLAG: ~~FALSE~~",
    "<s>FALSE</s>",
    "<del>FALSE</del>",
    "FALSE positive",
    "FALSE_POSITIVE",
    "FALSE?",
    "FALSE, but a face is visible",
    "FALSE, but",
    "FALSE,",
    "FALSE;",
    "FALSE:",
    "FALSE -",
    "FALSE..",
    "FALSE...",
    "FALSE…",
    "FALSE (",
    "**FALSE",
    "PRIVACY_FLAG: **FALSE",
    "PRIVACY_FLAG:**FALSE",
    "**PRIVACY_FLAG: FALSE",
    "__PRIVACY_FLAG: FALSE",
    "FALSE\n---",
    '{"PRIVACY_FLAG": false',
    '{"PRIVACY_FLAG": false,',
    '"FALSE',
    "Probably FALSE",
    "PRIVACY_FLAG: probably FALSE",
    "FALSE (not sure)",
    "I would say FALSE",
    "FALSE unless the plate counts",
    "Set PRIVACY_FLAG: FALSE",
    "Set PRIVACY_FLAG: FALSE if nothing is there",
    "[ ] FALSE",
    "- [ ] FALSE",
    "[x] TRUE\n[ ] FALSE",
    "☐ FALSE",
    "() FALSE",
    "__ TRUE __ FALSE",
    "PRIVACY_FLAG: ___ FALSE",
    "PRIVACY_FLAG: ** FALSE",
    "FALS",
    "FAL",
    "FALSEE",
    "FALSEFALSE",
    "fALSE",
    "FaLsE",
    "F A L S E",
    "F\u200bALSE",
    "FALSE\u200b",
    "\u202eFALSE",
    "FА LSE",
    "FАLSE",
    "FALŠE",
    "FALſE",
    "ＦＡＬＳＥ",
    "𝐅𝐀𝐋𝐒𝐄",
    "ꓝALSE",
    "FAL5E",
    "FALSE\x00",
    "TRUE\b\b\b\bFALSE",
    '{"safe": false}',
    '{"is_safe": "FALSE"}',
    '{"PRIVACY_FLAG": "not FALSE"}',
    '{"PRIVACY_FLAG": {"value": false}}',
    "SAFE: FALSE",
    "not_private: FALSE",
    "<think>FALSE",
    "<think>FALSE</think>",
    f"PRIVACY_FLAG: FALSE{CUT}",
]
NO_FLAG = [
    "",
    " \n",
    "PRIVACY_FLAG:",
    "PRIVACY_FLAG: ____",
    "PRIVACY_FLAG: null",
    "PRIVACY_FLAG: N/A",
    "PRIVACY_FLAG: 0",
    "PRIVACY_FLAG: No",
    "PRIVACY_FLAG: safe",
    "PRIVACY_FLAG: [FLAG]",
    "No",
    "no.",
    "0",
    "None",
    "Safe",
    "The image contains no private content.",
    "I'm sorry, I can't help with that.",
    "As an AI model, I cannot inspect people.",
    "抱歉，我无法协助。",
    "Lo siento, no puedo.",
    "FALSCH",
    "Faux",
    "Falso",
    "ЛОЖЬ",
    "假",
    "否",
    "偽",
    "거짓",
    "خطأ",
    "{}",
    "[]",
    "null",
    '{"PRIVACY_FLAG": null}',
    '{"PRIVACY_FLAG": ""}',
    '{"PRIVACY_FLAG": 0}',
    "TRU",
    "untrue",
    "PRIVACY_FLAG: not TRUE",
    "If in doubt, set PRIVACY_FLAG: TRUE",
    "PRIVACY_FLAG: TRUE or",
    "TRUE?",
]


@pytest.mark.parametrize("text", SAYS_FALSE)
def test_an_unmistakable_false(text):
    assert answers.parse_flag(text) is False


@pytest.mark.parametrize("text", SAYS_TRUE)
def test_a_true(text):
    assert answers.parse_flag(text) is True


@pytest.mark.parametrize("text", [*CONTRADICTORY, *NOT_A_FALSE, *NO_FLAG, None, False, b"FALSE"])
def test_no_unmistakable_flag(text):
    with pytest.raises(UnparsableAnswer) as error:
        answers.parse_flag(text)
    assert error.value.code == "unparsable_answer"


GOOD = st.sampled_from(SAYS_FALSE)
POISON = st.sampled_from(
    [
        # Thinking before a good answer leaves no doubt.
        *(text for text in [*CONTRADICTORY, *NOT_A_FALSE] if text and not text.endswith("</think>")),
        *(
            text
            for text in NO_FLAG
            if any(c.isalnum() for c in text) and not text.startswith(("PRIVACY_FLAG:", "[", "{"))
        ),
        *(
            "TRUE",
            "PRIVACY_FLAG: TRUE",
            "yes",
            "no",
            "maybe",
            "unsure",
            "but",
            "not",
            "however a face is visible",
            "NOT",
        ),
        *(
            "?",
            "!",
            "…",
            "...",
            "😀",
            "\u200b",
            "\u2060",
            "¬",
            "~",
            "≠",
            "/",
            "&",
            "%",
            "1",
            "0.3",
            "positive",
            "nicht",
        ),
        *("A face.", "There is no person.", "I cannot tell.", "Reason: a street.", "[ ]", "( )", "<unk>", "<think>"),
    ]
)
"""Anything that, beside a good answer, leaves doubt. Blank labels are not here: they make a good answer no worse."""
BETWEEN = st.sampled_from([" ", "\n", "\n\n", ", ", "; ", " / ", " - ", " or ", "\n---\n", " | "])
LOOKALIKES = {
    "F": "ϜҒ𝐅Ｆꓝ",
    "A": "АΑÁ@4Ａᗅ",
    "L": "Ꮮ|1IＬⅬ",
    "S": "ЅŠ5$ſＳ",
    "E": "ЕΕÉ3Ｅ",
    "a": "аáạ@",
    "l": "1I|ӏ",
    "s": "ѕſš5",
    "e": "еéė3",
}
INSIDE = st.sampled_from(
    [" ", "\n", "\u200b", "\u00ad", "-", "_", ".", "*", "́", "X", "E", "\t", "​", "<b>", "\x07", "n't "]
)


@st.composite
def broken_words(draw):
    """A good answer whose FALSE lost a letter, took a wrong one, or was torn."""
    answer = draw(GOOD)
    at = answer.lower().rindex("false")
    word = answer[at : at + 5]
    index = draw(st.integers(0, 4))
    kind = draw(st.sampled_from(["cut", "drop", "double", "swap", "lookalike", "inside", "case"]))
    changed = {
        "cut": lambda: word[: draw(st.integers(0, 4))] + draw(st.sampled_from(["", "…", "...", CUT])),
        "drop": lambda: word[:index] + word[index + 1 :],
        "double": lambda: word[:index] + word[index] + word[index:],
        "swap": lambda: (
            word[: max(index, 1) - 1] + word[max(index, 1)] + word[max(index, 1) - 1] + word[max(index, 1) + 1 :]
        ),
        "lookalike": lambda: (
            word[:index]
            + draw(st.sampled_from(LOOKALIKES.get(word[index], "") or LOOKALIKES[word[index].upper()]))
            + word[index + 1 :]
        ),
        "inside": lambda: word[: max(index, 1)] + draw(INSIDE) + word[max(index, 1) :],
        "case": lambda: word[0].swapcase() + word[1:3].lower() + word[3:].upper(),
    }[kind]()
    return answer[:at] + changed + answer[at + 5 :] if changed not in ("FALSE", "False", "false") else "fALSE"


@st.composite
def poisoned(draw):
    """A good answer with something before or behind it that leaves doubt."""
    pieces = [draw(GOOD), *draw(st.lists(POISON, min_size=1, max_size=2))]
    return draw(BETWEEN).join(draw(st.permutations(pieces)))


@st.composite
def structured(draw):
    """JSON that says no, several things, or the right thing under another name."""
    value = draw(
        st.sampled_from([None, "", "TRUE FALSE", "not FALSE", "FALS", "no", 0, -1, [], {}, [True, False], "n/a"])
    )
    name = draw(st.sampled_from(["PRIVACY_FLAG", "privacy_flag", "flag", "Privacy Flag"]))
    other = draw(st.sampled_from(["safe", "public", "not_private", "no_privacy_flag", "PRIVACY_REVIEW", "FALSE", ""]))
    shape = draw(
        st.sampled_from(
            [{name: value}, {other: False}, {name: False, other: draw(st.booleans())}, {name: {other: False}}]
        )
    )
    return json.dumps(shape, indent=draw(st.sampled_from([None, 2])))


BROKEN = st.one_of(
    broken_words(),
    poisoned(),
    structured(),
    st.sampled_from([*CONTRADICTORY, *NOT_A_FALSE, *NO_FLAG]),
    st.lists(GOOD, min_size=2, max_size=4).map("\n".join),
)
WRAPS = [
    *(
        "{}",
        "**{}**",
        "`{}`",
        "[{}]",
        "({})",
        '"{}"',
        "\n{}\n",
        "# {}",
        "- {}",
        "{}.",
        "```\n{}\n```",
        "```json\n{}\n```",
    ),
    *("PRIVACY_FLAG: {}", "**PRIVACY_FLAG:** {}", "Answer: {}", "SECTION: PRIVACY_FLAG\n{}", "<answer>{}</answer>"),
    *("<think></think>{}", "{}<|im_end|>", '{{"PRIVACY_FLAG": {}}}', '{{"PRIVACY_FLAG": "{}"}}', "assistant\n{}"),
]
SEEN = []


@pytest.mark.slow
@settings(
    max_examples=10_500,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(BROKEN, st.lists(st.sampled_from(WRAPS), max_size=2))
def test_no_malformed_answer_comes_out_safe(text, wraps):
    for wrap in wraps:
        text = wrap.format(text)
    SEEN.append(text)
    with contextlib.suppress(UnparsableAnswer):
        assert answers.parse_flag(text) is True, f"safe: {text!r}"


@pytest.mark.slow
def test_that_many_malformed_answers_were_tried():
    assert len(SEEN) >= 10_000
    assert len(set(SEEN)) >= 5_000


LABEL_LETTERS = {
    "",
    *("privacyflag", "theprivacyflagis", "theprivacyflag", "flag", "theflag", "answer", "result", "output"),
}


@settings(max_examples=1_000, deadline=None, database=None, derandomize=True)
@given(st.text(alphabet="FALSEfalseTRU NOTnot:.*_`\"'[]{}<>()-/!?|=~,\n\u200bАſ", max_size=24))
def test_safe_letters_are_those_of_one_false(text):
    """Whatever the characters, a safe answer has no letters but those of FALSE and of a label."""
    try:
        flag = answers.parse_flag(text)
    except UnparsableAnswer:
        return
    letters = "".join(c for c in text if c.isalnum()).lower()
    assert flag or (letters.endswith("false") and letters.removesuffix("false") in LABEL_LETTERS)
    assert flag or not set(text) & set("!?/~,\u200bАſ")


CAPTIONS = {
    "plain": """PRIVACY_REVIEW
ITEM: A name tag that reads ANNA
CATEGORY: text
REASON: tells her name
ITEM: A woman's face
CATEGORY: people
REASON: can be recognised

PRIVATE_CAPTION
Anna, a woman in a red coat, stands in a café.

PUBLIC_CAPTION
A person stands in a café.""",
    "markdown": """### PRIVACY_REVIEW
- **ITEM:** A name tag that reads "ANNA"
- **CATEGORY:** text
- **REASON:** tells her name
- **ITEM:** A woman's face
- **CATEGORY:** people
- **REASON:** can be recognised
---
### **PRIVATE_CAPTION**
Anna, a woman in a red coat, stands in a café.
---
### **PUBLIC_CAPTION**
**A person stands in a café.**""",
    "inline": """Sure, here it is.
**PRIVACY_REVIEW:**
1. ITEM: A name tag that reads ANNA | CATEGORY: text | REASON: tells her name
2. ITEM: A woman's face | CATEGORY: people | REASON: can be recognised
**PRIVATE_CAPTION:** Anna, a woman in a red coat, stands in a café.
**PUBLIC_CAPTION:** "A person stands in a café." """,
    "sections": """SECTION: PRIVACY_REVIEW
ITEM: A name tag that reads ANNA
CATEGORY: text
REASON: tells her name

ITEM: A woman's face
CATEGORY: people
REASON: can be recognised
SECTION 2: Private Caption (<= 50 tokens)
Anna, a woman in a red coat,
stands in a café.
SECTION: PUBLIC_CAPTION
PUBLIC_CAPTION: A person stands in a café.<|im_end|>""",
    "table": """**PRIVACY_REVIEW**
| ITEM | CATEGORY | REASON |
|---|---|---|
| A name tag that reads ANNA | text | tells her name |
| A woman's face | people | can be recognised |
**PRIVATE CAPTION**: Anna, a woman in a red coat, stands in a café.
**PUBLIC CAPTION**: A person stands in a café.""",
    "json": """```json
{"PRIVACY_REVIEW": [
   {"ITEM": "A name tag that reads ANNA", "CATEGORY": "text", "REASON": "tells her name"},
   {"item": "A woman's face", "category": "People", "reason": "can be recognised"}],
 "private_caption": "Anna, a woman in a red coat, stands in a café.",
 "Public Caption": "A person stands in a café."}
```""",
}


@pytest.mark.parametrize("text", CAPTIONS.values(), ids=CAPTIONS)
def test_captions_in_every_shape(text):
    captions = answers.parse_caption(text)
    assert captions.private == "Anna, a woman in a red coat, stands in a café."
    assert captions.public == "A person stands in a café."
    tag, face = captions.review
    assert tag.item.replace('"', "") == "A name tag that reads ANNA"
    assert (tag.category, tag.reason) == ("text", "tells her name")
    assert face == ReviewItem("people", "A woman's face", "can be recognised")


def captions_of(review: str) -> tuple[ReviewItem, ...]:
    return answers.parse_caption(f"PRIVACY_REVIEW\n{review}\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: b").review


def test_a_review_loses_no_words():
    assert captions_of("none") == captions_of("- None found.") == ()
    assert captions_of("Nothing but the name Anna") == (ReviewItem("", "Nothing but the name Anna", ""),)
    assert captions_of("- A tag: Anna\n- A plate: W-1234") == (
        ReviewItem("", "A tag: Anna", ""),
        ReviewItem("", "A plate: W-1234", ""),
    )
    assert captions_of("REASON: reads Anna") == (ReviewItem("", "", "reads Anna"),)
    assert captions_of("ITEM: a\nREASON: b\nREASON: Anna") == (ReviewItem("", "a", "b Anna"),)
    as_json = '{"privacy_review": ["Anna", {"thing": "W-1234"}], "private_caption": "a", "public_caption": "b"}'
    assert answers.parse_caption(as_json).review == (ReviewItem("", "Anna", ""), ReviewItem("", "", "W-1234"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("I'm sorry, I can't help with that.", "missing"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a", "public caption is missing"),
        ("PRIVACY_REVIEW\nnone\nPUBLIC_CAPTION: a", "private caption is missing"),
        ("PRIVATE_CAPTION: a\nPUBLIC_CAPTION: b", "privacy review is missing"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION:", "public caption is missing"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: N/A", "empty"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: I'm sorry, I cannot.", "refusal"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: b\nPUBLIC_CAPTION: c", "twice"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: b\n\nNote: I left Anna out.", "paragraphs"),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: " + "word " * 121, "too long"),
        (
            "PRIVACY_REVIEW\n" + "".join(f"- {n}\n" for n in range(40)) + "PRIVATE_CAPTION: a\nPUBLIC_CAPTION: b",
            "too long",
        ),
        ("PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: {public_caption}", "form"),
        (f"PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: b{CUT}", "cut off"),
        ('{"privacy_review": [], "private_caption": "a", "public_caption": "b"', "JSON"),
        ('{"privacy_review": [], "private_caption": "a", "public_caption": null}', "missing"),
        ('{"privacy_review": [], "private_caption": "a", "public_caption": "b", "PUBLIC_CAPTION": "c"}', "twice"),
        ('{"privacy_review": [], "private_caption": "a", "public_caption": ["b"]}', "empty"),
        ("<think>PRIVACY_REVIEW\nnone\nPRIVATE_CAPTION: a\nPUBLIC_CAPTION: b", "thinking"),
        ("x" * 9_000, "far too long"),
    ],
)
def test_captions_that_cannot_be_used(text, complaint):
    with pytest.raises(UnparsableAnswer, match=complaint):
        answers.parse_caption(text)


EDIT = "change the woman's hair to short black hair, replace the sign with a plain wall"


@pytest.mark.parametrize(
    "text",
    [
        EDIT,
        f"  {EDIT}\n",
        f'"{EDIT}"',
        f"“{EDIT}”",
        f"**{EDIT}**",
        f"Edit instruction: {EDIT}",
        f"**Edit Instruction:** {EDIT}",
        f'Edit instruction: "{EDIT}"',
        f"### Edit instruction:\n{EDIT}",
        f"Sure! Here is the edit instruction:\n\n{EDIT}",
        f"Here's a concise edit for the photo: {EDIT}",
        f"Modifications: {EDIT}",
        f"Merged caption: {EDIT}",
        f"<think>hair, sign</think>\n\n{EDIT}",
        f"<think>\n\n</think>\n\n{EDIT}",
        f"hair, sign</think>{EDIT}",
        f"```\n{EDIT}\n```",
        f"<output>{EDIT}</output>",
        f'{{"edit_instruction": "{EDIT}"}}',
        "- change the woman's hair to short black hair\n- replace the sign with a plain wall",
        "1. change the woman's hair to short black hair\n2. replace the sign with a plain wall",
        f"{EDIT}\n\n(Word count: 16)",
        f"{EDIT}<|im_end|>",
    ],
)
def test_instructions_in_every_shape(text):
    assert answers.parse_instruction(text) == EDIT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Edit instruction:",
        "None",
        "...",
        "I'm sorry, but I can't help with that.",
        "I cannot change people's race.",
        "As an AI language model, I do not edit people.",
        "Es tut mir leid, das geht nicht.",
        "抱歉，我无法完成。",
        "<think>change the hair",
        "{public_caption}",
        '{"edit_instruction": null}',
        '{"edit_instruction": "a", "note": "b"}',
        "change the hair " * 40,
        "x" * 2_000,
        EDIT + CUT,
        None,
    ],
)
def test_instructions_that_cannot_be_used(text):
    with pytest.raises(UnparsableAnswer):
        answers.parse_instruction(text)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("85", 85),
        ("85.5", 85.5),
        ("0", 0),
        ("100", 100),
        ("85/100", 85),
        ("85 / 100", 85),
        ("85%", 85),
        ("85 out of 100", 85),
        ("<85>", 85),
        ("[85]", 85),
        ("**85**", 85),
        ("Score: 85", 85),
        ("ANONYMIZATION_SCORE: 85", 85),
        ("ANONYMIZATION_SCORE: <85>", 85),
        ("**ANONYMIZATION_SCORE:** 85", 85),
        ("**ANONYMIZATION_SCORE: 85/100**", 85),
        ("Anonymisation score: 85.", 85),
        ("### Score\n85", 85),
        ("The score is 85.", 85),
        ('{"anonymization_score": 85}', 85),
        ("Step 1: 3 people differ.\nStep 2: strong.\nANONYMIZATION_SCORE: 85", 85),
        ("Score: 85\nANONYMIZATION_SCORE: 85", 85),
        ("Score: 85, since 3 of 4 faces differ", 85),
        ("<think>70?</think>85", 85),
    ],
)
def test_scores_in_every_shape(text, score):
    assert answers.parse_score(text) == score


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "850",
            "101",
            "-5",
            "1e2",
            "nan",
            "0.85",
            "8/10",
            "85/1000",
            "85/10",
            "85 out of 10",
            "٨٥",
            "８５",
            "85,5",
        ),
        *(
            "Score: 850",
            "Score: -5",
            "Score: 8/10",
            "Score: **8**/10",
            "Score: 70-90",
            "Score: 70 to 90",
            "Score: 70–90",
        ),
        *(
            "Score: <integer 0-100>",
            "ANONYMIZATION_SCORE: and the number",
            "Score: 0-100",
            "Score:",
            "between 70 and 90",
        ),
        *(
            "Score: 20\nScore: 80",
            "The first photo has 3 faces.",
            "high",
            "I'm sorry, I can't.",
            "Score: 85.5.5",
            f"85{CUT}",
        ),
        *('{"score": null}', '{"score": [20, 80]}', "<think>85", None),
    ],
)
def test_scores_that_cannot_be_used(text):
    with pytest.raises(UnparsableAnswer):
        answers.parse_score(text)


@pytest.mark.parametrize(
    "parse", [answers.parse_flag, answers.parse_caption, answers.parse_instruction, answers.parse_score]
)
def test_complaints_never_repeat_the_answer(parse):
    with pytest.raises(UnparsableAnswer) as error:
        parse("I'm sorry, Anna Miller of Wien is in PUBLIC_CAPTION")
    assert "Anna" not in str(error.value)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused_by_name(text):
    for parse in (answers.parse_flag, answers.parse_caption, answers.parse_instruction, answers.parse_score):
        try:
            parse(text)
        except UnparsableAnswer:
            continue


@pytest.mark.parametrize("items", [0, 1, 3, 10])
def test_the_form_to_which_a_model_may_be_held_can_be_read(items):
    entries = "\n\n".join(f"ITEM: sign {i}\nCATEGORY: text\nREASON: says where" for i in range(items)) or "none"
    text = f"PRIVACY_REVIEW\n{entries}\n\nPRIVATE_CAPTION\nAnna sits.\n\nPUBLIC_CAPTION\nA person sits."
    assert re.fullmatch(FORM, text) and not re.fullmatch(FORM, f"Sure!\n{text}")
    said = parse_caption(text)
    assert (len(said.review), said.private, said.public) == (items, "Anna sits.", "A person sits.")
