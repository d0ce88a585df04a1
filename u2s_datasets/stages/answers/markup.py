"""What all parsers share: thinking, fences, end tokens, paired marks and bullets come off; refusals are recognised.

Nothing is folded or normalised here: a letter that only looks like another stays what it is, so that no lookalike
becomes a word that counts. Messages are worded for the model and never repeat its answer, which is private.
"""

import json
import re
from typing import Any

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.parts import CUT

MAX_CHARS = 8_000  # of an answer without its thinking: more is never meant as an answer to these prompts

BLANK = " \t\r\n"

# Around a label such as "**PRIVACY_FLAG:**" and its value: opening marks, closing marks, what separates the two, and
# marks behind that; FINAL_STOP is a full stop that ends the answer.
OPEN, CLOSE, AFTER = r"[*_`\"'“‘\[({<]*", r"[*_`\"'”’\])}>]*", r"[*`\"'”’\])}>]*"
SEPARATOR = r"[ \t]*(?:={1,2}>?|->|[:：→]|[-–—](?=\s)|\bis\b:?|(?=\s))"
FINAL_STOP = re.compile(r"(?<=[\w*`\"'”’\])}>])[.。](?=[*_`\"'”’\])}>]*\Z)")

_END = re.compile(r"(?:\s*(?:<\|(?:im_end|endoftext|end|eot_id)\|>|<end_of_turn>|<eos>|</s>))+\s*\Z")
_FENCE = re.compile(r"\A```(?:json|text|txt|plaintext|yaml|markdown|md)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)
_TAG = re.compile(r"\A<(answer|output|result|flag|privacy_flag)>(.*)</\1>\Z", re.DOTALL | re.IGNORECASE | re.ASCII)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|={3,}|\*{3,})[ \t]*\r?$", re.MULTILINE)
_BULLET = re.compile(r"\A(?:[-+*•]|#{1,6}|\d{1,2}[.)])[ \t]+")
_PAIRS = (
    *(("**", "**"), ("__", "__"), ("```", "```"), ("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("“", "”"), ("‘", "’"), ("[", "]"), ("(", ")"), ("<", ">"), ("{", "}"), ("【", "】")),
)


def thought_and_answer(text: str) -> tuple[str, str]:
    """(thinking, answer): the answer is what follows the last "</think>", without end tokens and outer blanks.

    Raises:
        UnparsableAnswer: there is no answer, or it was cut off, or is far too long.
    """
    if not isinstance(text, str) or not text.strip():
        raise UnparsableAnswer("the answer is empty")
    if text.rstrip().endswith(CUT):
        raise UnparsableAnswer("the answer was cut off at the token limit: be shorter")
    thought, _, answer = _END.sub("", text).rpartition("</think>")
    answer = answer.strip(BLANK)
    if not answer or "<think" in answer:
        raise UnparsableAnswer("there is thinking and no answer")
    if len(answer) > MAX_CHARS:
        raise UnparsableAnswer("the answer is far too long")
    return thought, answer


def bare_answer(text: str) -> str:
    """The answer without thinking, fence or tag. Raises `UnparsableAnswer` as `thought_and_answer` does."""
    return unfenced(thought_and_answer(text)[1])


def unfenced(text: str) -> str:
    """The inside of a code fence or an answer tag that holds the whole text; else the text."""
    text = text.strip(BLANK)
    for pattern in (_FENCE, _TAG):
        match = pattern.match(text)
        if match:
            return unfenced(match.group(match.lastindex or 0))
    return text


def unruled(text: str) -> str:
    """The text without lines that are only a rule."""
    return _RULE.sub("", text).strip(BLANK)


def unbulleted(text: str) -> str:
    """The text without a leading bullet, number or heading mark."""
    return _BULLET.sub("", text.strip(BLANK))


def peeled(text: str) -> str:
    """The text without marks in pairs around the whole of it, such as bold, quotes and brackets."""
    text = text.strip(BLANK)
    for left, right in _PAIRS:
        inner = text[len(left) : -len(right)]
        paired = inner and text.startswith(left) and text.endswith(right)
        if paired and left not in inner and right not in inner:
            return peeled(inner)
    return text


def balanced(text: str) -> bool:
    """Whether every mark has its partner and no bracket is empty, as in the unticked box "[ ]"."""
    text = re.sub(r"[-=]>", "", text)
    if re.search(r"[\[({<]\s*[\])}>]", text):
        return False
    bold, single = text.count("**") + text.count("__"), text.replace("**", "")
    if bold % 2 or any(single.count(mark) % 2 for mark in "*`\"'"):
        return False
    return all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}", "<>", "“”", "‘’", "【】"))


def flattened(text: str, joint: str = " ") -> str:
    """Lines as one line of plain words: bullets, bold, code marks, control characters and runs of blanks gone."""
    lines = [re.sub(r"[*`]+|__+", "", unbulleted(line)) for line in text.splitlines()]
    joined = joint.join(line for line in lines if line.strip())
    return peeled(" ".join("".join(c if c.isprintable() else " " for c in joined).split()))


_REFUSAL = re.compile(
    r"\W*(?:i(?:['’]m| am)(?: very| really)? (?:sorry|unable|afraid|not able)\b|sorry\b|i apologi[sz]e\b"
    r"|i (?:can(?:not|['’]t)|can not|won['’]t|will not|do not|don['’]t)\b|as an? (?:ai|language model|assistant)\b"
    r"|unfortunately, i\b|(?:this|your) request\b|lo siento|(?:je suis )?désolé|je ne peux pas|es tut mir leid"
    r"|ich kann\b|mi dispiace|desculpe|не могу|извините|к сожалению"
    r"|抱歉|对不起|很抱歉|我无法|我不能|無法|申し訳|すみません|죄송)",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"\W*(?:none|null|nil|n/?a|nothing|empty|not applicable|no[_ ]caption)?\W*", re.IGNORECASE)
_ECHO = re.compile(r"\{\w+\}|\bPRIVACY_(?:REVIEW|FLAG)\b|\bP(?:RIVATE|UBLIC)_CAPTION\b")


def prose(text: Any, what: str, max_words: int, joint: str = " ") -> str:
    """One line of plain words.

    Args:
        text: the part of an answer that should hold them; anything but text counts as empty.
        what: the word for it in messages.
        max_words: the most words to accept.
        joint: what joins its lines.

    Raises:
        UnparsableAnswer: it is empty, a refusal, an echo of the prompt, or too long.
    """
    words = flattened(text, joint) if isinstance(text, str) else ""
    if _NOTHING.fullmatch(words):
        raise UnparsableAnswer(f"the {what} is empty: write it in plain words")
    if _REFUSAL.match(words):
        raise UnparsableAnswer(f"the {what} is a refusal: describe only what may be said, in plain words")
    if _ECHO.search(text):
        raise UnparsableAnswer(f"the {what} repeats the form instead of filling it in")
    if len(words.split()) > max_words or len(words) > 12 * max_words:
        raise UnparsableAnswer(f"the {what} is too long: use fewer than {max_words // 2} words")
    return words


def json_object(text: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        UnparsableAnswer: it is not valid, not an object, or gives a name twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key(name) for name, _ in pairs}) != len(pairs):
            raise UnparsableAnswer("a name is given twice in the JSON: give each once")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UnparsableAnswer("the JSON is not valid: close every quote and bracket") from error
    if not isinstance(value, dict):
        raise UnparsableAnswer("the JSON is no object")
    return value


def key(name: str) -> str:
    """A name reduced to its letters, so that "Public caption" and "PUBLIC_CAPTION" are the same."""
    return re.sub(r"[^a-z]", "", name.lower())
