"""Language and vision-language models behind a server that speaks OpenAI's chat completions: vLLM, SGLang,
`transformers serve`, or a provider.

Images go to the configured host and nowhere else: redirects and the environment's proxies are not followed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import json
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar
from urllib.parse import SplitResult, urlsplit

from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT, Backend, Request
from u2s_datasets.parts.backends.common import NO_ANSWER, begins_answer, message_content
from u2s_datasets.parts.backends.posting import Transient, Unreachable, post
from u2s_datasets.parts.checks import check_float, check_ranges

T = TypeVar("T")
_TOP_LOGPROBS = 20  # the most alternatives that servers list per token


@dataclass(frozen=True)
class OpenAIBackend(Backend):
    """A model that a server runs. Requests are sent side by side, and each waits for its own answer.

    Args:
        model: the model's name at the server.
        base_url: the server's address up to "/v1".
        api_key_env: environment variable that holds the key, if it is set; None sends none.
        max_concurrency: most requests under way at a time.
        timeout: seconds for one request, from its first byte to the last byte of its answer.
        retries: further attempts after a timeout, a broken answer, or a status of 408, 425, 429 or 5xx.
        backoff: seconds before the first further attempt, doubled at each one, with jitter; a server's
            Retry-After of up to two minutes goes before.
        patience: seconds to wait for a server that takes no connections before the run stops.
        max_pixels: larger images are scaled down to so many pixels.
        thinking: False asks the chat template to leave thinking out; None says nothing (for servers that refuse
            `chat_template_kwargs`, such as OpenAI's own).
    """

    model: str
    base_url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    max_concurrency: int = 8
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 0.5
    patience: float = 60.0
    max_pixels: int = 1_003_520
    thinking: bool | None = False

    on_gpu: ClassVar[bool] = False

    def check(self) -> None:
        """Raise `SetupError` for an option that cannot work; connects to nothing."""
        check_ranges(self, max_concurrency=(1, math.inf), max_pixels=(1, math.inf), retries=(0, math.inf))
        check_ranges(self, backoff=(0, math.inf), patience=(0, math.inf))
        check_float("timeout", self.timeout, 0, above=True)
        url = self._url()
        if self._key() and url.scheme != "https" and not _is_local(url):
            raise SetupError(
                f"base_url: the key in {self.api_key_env} would travel readable to {url.hostname}; "
                "use https, or api_key_env=None"
            )

    def load(self) -> _Client:
        """The client that sends; warns if images leave this machine."""
        self.check()
        url = self._url()
        if not _is_local(url):
            readable = "" if url.scheme == "https" else ", readable on the way (no https)"
            warnings.warn(f"images and prompts are sent to {url.hostname}{readable}", UserWarning, stacklevel=2)
        return _Client(self, url)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request.

        Raises:
            RowError: a request has no usable answer after all attempts (code "no_answer"). The answers to the others
                of its batch are kept, so that asking one by one sends nothing twice.
            SetupError: the server is down, or refuses the key, the model's name or the kind of request.
        """
        return self.loaded.ask(requests, self._body, answer_text)

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's beginning among the 20 likeliest next tokens; 0 if it is not among them.

        Raises:
            RowError, SetupError: as `generate` does; `SetupError` if the server lists no probabilities.
        """
        if len(set(choices)) < 2 or any(a != b and b.startswith(a) for a in choices for b in choices):
            raise SetupError(
                f"invalid choices={list(choices)!r}; expected two or more texts, none the beginning of another"
            )
        # Temperature 1, since some servers list the probabilities after the temperature has bent them.
        listing = {"temperature": 1.0, "seed": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        return self.loaded.ask(requests, lambda r: self._body(r) | listing, partial(choice_probabilities, choices))

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": m.role, "content": message_content(m, "image_url", self.max_pixels, encode=_image_url)}
                for m in request.messages
            ],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if request.temperature > 0:
            body["seed"] = request.seed % 2**31
        if begins_answer(request):
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if self.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": self.thinking}
        return body

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "") if self.api_key_env else ""

    def _url(self) -> SplitResult:
        try:
            url = urlsplit(self.base_url)
            valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            valid = False
        if not valid or url.username or url.password or url.query:
            raise SetupError(  # without the value, which may hold a key
                "invalid base_url; expected an address such as http://127.0.0.1:8000/v1, without name, password or "
                "query; a key comes from the environment (api_key_env)"
            )
        return url._replace(path=url.path.rstrip("/") + "/chat/completions")


class _Stopped(SetupError):
    """Another request of the batch failed for all."""


@dataclass
class _Client:
    """Sends requests side by side and keeps the outcomes of a batch that failed, by a digest of each request."""

    options: OpenAIBackend
    url: SplitResult
    outcomes: dict[str, Any] = field(default_factory=dict)

    def ask(
        self, requests: Sequence[Request], body: Callable[[Request], dict[str, Any]], read: Callable[[Any], T]
    ) -> list[T]:
        """What `read` makes of the reply to each request, in order."""
        stop = threading.Event()

        def outcome_of(request: Request) -> tuple[str, T | RowError]:
            data = json.dumps(body(request)).encode()
            digest = hashlib.sha256(data).hexdigest()
            kept = self.outcomes.pop(digest, None)
            try:
                return digest, self._send(data, read, stop) if kept is None else kept
            except RowError as error:
                return digest, error
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(max(1, min(self.options.max_concurrency, len(requests)))) as pool:
            # Bodies are built in the threads: only the images under way are encoded in memory.
            futures = [pool.submit(outcome_of, request) for request in requests]
            try:
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:
                stop.set()
                raise
        if errors:  # the one that stopped the others says what is wrong
            raise next((error for error in errors if not isinstance(error, _Stopped)), errors[0])
        outcomes = [future.result() for future in futures]
        answers = [outcome for _, outcome in outcomes if not isinstance(outcome, RowError)]
        if len(answers) < len(requests):
            if len(requests) > 1:
                self.outcomes = dict(outcomes)
            raise next(outcome for _, outcome in outcomes if isinstance(outcome, RowError))
        return answers

    def _send(self, data: bytes, read: Callable[[Any], T], stop: threading.Event) -> T:
        """What `read` makes of the reply, after as many attempts as it may take."""
        options, key = self.options, self.options._key()
        attempts, absent_since = 0, math.inf
        while not stop.is_set():
            try:
                status, reply = post(self.url, data, key, options.timeout)
                if status != 200:
                    raise refusal(status, reply, options)
                return read(reply)
            except Unreachable as error:
                absent_since = min(absent_since, time.monotonic())
                left = absent_since + options.patience - time.monotonic()
                if left <= 0:
                    raise SetupError(
                        f"no server takes connections at {options.base_url} ({error}); start it, or set base_url"
                    ) from error
                pause = min(2.0, left)
            except Transient as error:
                if attempts >= options.retries:
                    raise RowError(f"no answer after {attempts + 1} attempts: {error}", NO_ANSWER) from error
                pause = error.pause(options.backoff * 2**attempts)
                attempts, absent_since = attempts + 1, math.inf
            stop.wait(pause)
        raise _Stopped("stopped, since another request found that the server cannot be used")


def refusal(status: int, reply: Any, options: OpenAIBackend) -> SetupError | RowError:
    """The error for a request that the server refused: of the whole run, or of its row alone."""
    if status in (401, 403):
        return SetupError(f"the server refuses the key (status {status}); set the variable {options.api_key_env}")
    if status == 404:
        return SetupError(
            f"the server has no model {options.model!r} or no such path (status 404); set model or base_url"
        )
    if 300 <= status < 400:
        return SetupError(f"the server redirects (status {status}), which is not followed; set base_url to its address")
    text = json.dumps(reply)
    for name, remedy in (
        ("continue_final_message", 'ask with method="generate"'),
        ("logprobs", 'ask with method="generate"'),
        ("chat_template_kwargs", "set thinking=None"),
    ):
        if name in text:
            return SetupError(f"the server does not know {name} (status {status}); {remedy}")
    return RowError(f"the server refuses the request (status {status}): {text[:300]}", NO_ANSWER)


def answer_text(reply: Any) -> str:
    """The text of a reply, with `CUT` if the token limit ended it; any other end than "stop" is `Transient`."""
    choice = _only_choice(reply)
    message, reason = choice.get("message"), choice.get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason == "length":
        return (text if isinstance(text, str) else "") + CUT
    if not isinstance(text, str) or reason != "stop":
        raise Transient(f"the answer has no text, or ended for the reason {reason!r}")
    return text


def choice_probabilities(choices: Sequence[str], reply: Any) -> dict[str, float]:
    """The probability of each choice as the reply's first words, from its list of likeliest tokens.

    For each choice, with and without a space before it, the longest listed token with which it begins counts. A
    single letter may begin anything, and what begins two choices tells them not apart: neither counts.
    """
    logprobs = _only_choice(reply).get("logprobs")
    if not logprobs:
        raise SetupError('the server lists no probabilities (logprobs); ask with method="generate"')
    try:
        listed = [(str(t["token"]), math.exp(float(t["logprob"]))) for t in logprobs["content"][0]["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise Transient("the probabilities cannot be read") from error
    tokens = dict(listed)
    if len(tokens) < len(listed) or not 0 <= sum(tokens.values()) <= 1.001:  # also refuses NaN
        raise Transient("the probabilities are impossible")
    totals = dict.fromkeys(choices, 0.0)
    for choice in totals:
        for text in (choice, f" {choice}"):
            space = len(text) - len(choice)
            token = max((t for t in tokens if text.startswith(t) and len(t) > space), key=len, default="")
            shared = any(other != choice and (" " * space + other).startswith(token) for other in choices)
            if not shared and (len(token) > space + 1 or token == text):
                totals[choice] += tokens[token]
    return {choice: min(1.0, total) for choice, total in totals.items()}


def _only_choice(reply: Any) -> dict[str, Any]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Transient("the reply does not hold exactly one answer")
    return choices[0]


def _image_url(image: Image.Image) -> dict[str, str]:
    """As `{"url": …}` with all of the image in it, losslessly."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"url": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()}


def _is_local(url: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(str(url.hostname)).is_loopback
    except ValueError:
        return url.hostname == "localhost"
