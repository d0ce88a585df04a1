"""What a chat-completions server replied: the answer, or why there is none. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT
from u2s_datasets.parts.backends.posting import Passing

NO_ANSWER = "no_answer"
"""The reason code of a row for which the server had no answer that can be used."""


def usable(status: int, reply: Any, model: str, key_env: str | None) -> Any:
    """The reply to a request that was served; raises for one that was refused."""
    if status == 200:
        return reply
    if status in (401, 403):
        raise SetupError(f"the server refuses the key (status {status}); set the variable {key_env}")
    if status == 404:
        raise SetupError(f"the server knows no model {model!r} or no such path (status 404)")
    if 300 <= status < 400:
        raise SetupError(f"the server redirects (status {status}), which is not followed; set base_url to its address")
    words = json.dumps(reply)
    for name, cure in (
        ("continue_final_message", 'ask with method="generate"'),
        ("logprobs", 'ask with method="generate"'),
        ("chat_template_kwargs", "set thinking=None"),
    ):
        if name in words:
            raise SetupError(f"the server does not know {name} (status {status}); {cure}")
    raise RowError(f"the server refuses the request (status {status}): {words[:300]}", NO_ANSWER)


def _first(reply: Any) -> dict[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Passing("the reply does not hold exactly one answer")
    return choices[0]


def answer(reply: Any) -> str:
    """The text of a reply, with `CUT` where the token limit ended it; any other end than "stop" is no answer."""
    first = _first(reply)
    message, reason = first.get("message"), first.get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason == "length":
        return (text if isinstance(text, str) else "") + CUT
    if not isinstance(text, str) or reason != "stop":
        raise Passing(f"the answer holds no text, or ended for the reason {reason!r}")
    return text


def weights_of(reply: Any, choices: Sequence[str]) -> dict[str, float]:
    """The probability of each choice as the reply's first words, from its list of likeliest tokens."""
    logprobs = _first(reply).get("logprobs")
    if not logprobs:
        raise SetupError('the server lists no probabilities (logprobs); ask with method="generate"')
    try:
        listed = [(str(t["token"]), math.exp(float(t["logprob"]))) for t in logprobs["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise Passing("the probabilities cannot be read") from error
    weights = dict(listed)
    if len(weights) < len(listed) or not 0 <= sum(weights.values()) <= 1.001:
        raise Passing("the probabilities are none")
    return {choice: min(1.0, _weight(choice, weights, choices)) for choice in choices}


def _weight(choice: str, weights: dict[str, float], choices: Sequence[str]) -> float:
    """The probability of the longest listed beginning of a choice, with and without a space before it.

    A single letter may begin anything, and what begins two choices tells nothing: neither counts.
    """
    total = 0.0
    for space in ("", " "):
        begins = [t for t in weights if (space + choice).startswith(t) and len(t) > len(space)]
        token = max(begins, key=len, default=None)
        if token is None or (len(token) == len(space) + 1 and token != space + choice):
            continue
        if not any(other != choice and (space + other).startswith(token) for other in choices):
            total += weights[token]
    return total
