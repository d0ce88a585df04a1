"""The answer to a flag prompt.

FALSE is read by allowlist: the whole answer has to be that word, once, with at most a label and marks around it.
Anything else raises `UnparsableAnswer`; the step then asks once more, naming the error, and after that flags and
withholds the row (law 1).
"""

import re

from u2s_datasets.errors import UnparsableAnswer
from u2s_datasets.stages.answers import markup
from u2s_datasets.stages.answers.markup import AFTER, CLOSE, FINAL_STOP, OPEN, SEPARATOR

_NAME = r"(?:the )?privacy[ _-]?flag"
_LABEL = re.compile(
    rf"\A(?:[-+*#]+[ \t]+)?{OPEN}"
    rf"(?:{_NAME}|(?:the )?flag|section|(?:the )?(?:final )?answer|assistant|output|result)"
    rf"{CLOSE}{SEPARATOR}{AFTER}\s*",
    re.IGNORECASE | re.ASCII,
)
_LONE_FALSE = ("FALSE", "False", "false")
_TRUE = r"[*_`\"'“‘\[(<]*(?P<word>TRUE|True|true)(?![\w'’])(?![ \t,]*(?:or|and|if|when|unless)\b)(?!\s*[?/|])"
_TRUE_FIRST = re.compile(_TRUE, re.ASCII)
_SAID_TRUE = re.compile(rf"\b{_NAME}{CLOSE}{SEPARATOR}{AFTER}\s*{_TRUE}", re.IGNORECASE | re.ASCII)
_HEDGE = re.compile(r"\b(?:if|when|unless|whether|or|not|never|set|default|should|would|could|may|might)\b", re.I)
_FLAGS = re.compile(r"true|false", re.IGNORECASE | re.ASCII)


def parse_flag(text: str) -> bool:
    """Whether the model calls the image private.

    Args:
        text: the whole answer to a flag prompt.

    Returns:
        True for private; False only for an answer that is one unmistakable FALSE.

    Raises:
        UnparsableAnswer: anything else: no flag or several, a part of a word, a refusal, a hedge, an echo.
    """
    thought, answer = markup.thought_and_answer(text)
    if _is_lone_false(answer):
        concluded = _FLAGS.findall(thought)
        if concluded and concluded[-1].upper() == "TRUE":
            raise UnparsableAnswer("the thinking ends in TRUE and the answer is FALSE: decide on one")
        if thought and (not thought.lstrip(markup.BLANK).startswith("<think>") or thought.count("think>") > 1):
            raise UnparsableAnswer("something stands before the thinking: reply with the flag and nothing else")
        return False
    if re.search("fals", answer, re.IGNORECASE):
        raise UnparsableAnswer("a FALSE does not stand alone: reply with one line, the flag and nothing else")
    if any(_says_true(line) for line in answer.splitlines()):
        return True
    raise UnparsableAnswer("there is no flag: reply with one line, PRIVACY_FLAG: TRUE or PRIVACY_FLAG: FALSE")


def _is_lone_false(answer: str) -> bool:
    whole = markup.unfenced(answer)
    bare = markup.unbulleted(markup.unruled(whole))
    return not whole.endswith("---") and markup.balanced(bare) and _unlabelled(bare) in _LONE_FALSE


def _unlabelled(text: str) -> str:
    while True:
        inner = markup.peeled(_LABEL.sub("", markup.peeled(FINAL_STOP.sub("", text)), count=1))
        if inner == text:
            return text
        text = inner


def _says_true(line: str) -> bool:
    bare = markup.peeled(markup.unbulleted(markup.unfenced(line)))
    value = _unlabelled(bare)
    first = _TRUE_FIRST.match(value)
    if first and (_LABEL.match(bare) or first["word"] == "TRUE" or not re.search(r"\w", value[first.end() :])):
        return True
    said = _SAID_TRUE.search(bare)
    return said is not None and not _HEDGE.search(bare[: said.start()])
