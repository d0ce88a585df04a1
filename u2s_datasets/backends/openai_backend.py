"""Language and vision-language models behind a server that speaks OpenAI's chat completions: vLLM, SGLang,
`transformers serve`, or a provider.

Pictures go to the configured host and nowhere else: redirects and the environment's proxies are not followed.
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
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from PIL import Image

from u2s_datasets.backends.pictures import fitted
from u2s_datasets.backends.posting import Absent, Address, Passing, post
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT, Backend, Message, Request

T = TypeVar("T")
NO_ANSWER = "no_answer"
"""The reason code of a row for which the server had no answer that can be used."""

_TOP = 20  # the most alternatives that servers list per token


@dataclass(frozen=True)
class OpenAIBackend(Backend):
    """A model that a server runs. Requests are sent side by side; each waits for its own answer.

    Args:
        model_id: the model's name at the server.
        base_url: the server's address up to "/v1".
        api_key_env: environment variable that holds the key, if it is set; None sends none.
        max_concurrency: most requests under way at a time.
        timeout: seconds for one request, from its first byte to its answer's last.
        retries: further attempts after a timeout, a broken answer, or a status of 408, 425, 429 or 5xx.
        backoff: seconds before the first further attempt, doubled at each one, with jitter; a server's
            Retry-After of up to two minutes is kept instead.
        patience: seconds for which a server that takes no connections is waited for before the run stops.
        max_pixels: larger pictures are scaled down to so many pixels.
        thinking: False asks the chat template to leave thinking out, None says nothing (for servers that refuse
            `chat_template_kwargs`, such as OpenAI's own).
    """

    model_id: str
    base_url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    max_concurrency: int = 8
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 0.5
    patience: float = 60.0
    max_pixels: int = 1_003_520
    thinking: bool | None = False

    shown: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Raises `SetupError` for an option that cannot work; connects to nothing."""
        if min(self.max_concurrency, self.max_pixels) < 1 or min(self.retries, self.backoff, self.patience) < 0:
            raise SetupError("max_concurrency and max_pixels have to be 1 or more, retries, backoff and patience 0")
        if self.timeout <= 0:
            raise SetupError(f"timeout={self.timeout!r}: give seconds above 0")
        address = self._address()
        if self._key() and not address.tls and not _local(address.host):
            raise SetupError(
                f"base_url: the key in {self.api_key_env} would travel readable to {address.host}; "
                "use https, or api_key_env=None"
            )

    def load(self) -> _Client:
        """What sends; warns where pictures leave this machine."""
        self.check()
        address = self._address()
        if not _local(address.host):
            how = "" if address.tls else ", readable on the way (no https)"
            warnings.warn(f"images and prompts are sent to {address.host}{how}", UserWarning, stacklevel=2)
        return _Client(self, address)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        """One answer per request.

        Raises:
            RowError: a request has no usable answer after all attempts (code "no_answer"). What the others of its
                batch answered is kept, so that asking one by one sends nothing twice.
            SetupError: the server is not there, or refuses the key, the model's name or the kind of request.
        """
        bodies = [lambda r=r: self._body(r, r.max_tokens, r.temperature, r.seed) for r in requests]
        return self.model.ask(bodies, _answer)

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        """Probabilities of each choice's beginning among the 20 likeliest next tokens; 0 for one not among them.

        Raises:
            RowError, SetupError: as `generate` does; `SetupError` where the server lists no probabilities.
        """
        if len(set(choices)) < 2 or any(a != b and b.startswith(a) for a in choices for b in choices):
            raise SetupError(f"choices={list(choices)!r}: give two or more texts, none the beginning of another")
        listed = {"logprobs": True, "top_logprobs": _TOP}
        # Temperature 1, since some servers list the probabilities that the temperature has bent.
        bodies = [lambda r=r: self._body(r, 1, 1.0, 0) | listed for r in requests]
        return self.model.ask(bodies, lambda reply: _weights(reply, choices))

    def _body(self, request: Request, max_tokens: int, temperature: float, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model_id,
            "messages": [{"role": m.role, "content": self._content(m)} for m in request.messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if temperature > 0:
            body["seed"] = seed % 2**31
        if request.messages[-1].role == "assistant":
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if self.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": self.thinking}
        return body

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        if not any(isinstance(part, Image.Image) for part in message.content):
            return "\n".join(str(part) for part in message.content)
        return [
            {"type": "image_url", "image_url": {"url": _data_uri(fitted(part, self.max_pixels))}}
            if isinstance(part, Image.Image)
            else {"type": "text", "text": part}
            for part in message.content
        ]

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "") if self.api_key_env else ""

    def _address(self) -> Address:
        try:
            url = urlsplit(self.base_url)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise SetupError("base_url is no address; give one such as http://127.0.0.1:8000/v1") from error
        if url.scheme not in ("http", "https") or not host or url.username or url.password or url.query:
            raise SetupError(
                "base_url: give an address such as http://127.0.0.1:8000/v1, without name, password or query; "
                "a key comes from the environment (api_key_env)"
            )
        tls = url.scheme == "https"
        return Address(tls, host, port or (443 if tls else 80), url.path.rstrip("/") + "/chat/completions")


@dataclass
class _Client:
    """Sends requests side by side and remembers the outcomes of a batch that failed."""

    options: OpenAIBackend
    address: Address
    kept: dict[str, list[Any]] = field(default_factory=dict)

    def ask(self, bodies: Sequence[Callable[[], dict[str, Any]]], read: Callable[[Any], T]) -> list[T]:
        """What `read` makes of the reply to each body, in order."""
        stop = threading.Event()

        def one(build: Callable[[], dict[str, Any]]) -> tuple[str, T | RowError]:
            data = json.dumps(build()).encode()
            name = hashlib.sha256(data).hexdigest()
            with _KEPT:
                if self.kept.get(name):
                    return name, self.kept[name].pop()
            try:
                return name, self._insist(data, read, stop)
            except RowError as error:
                return name, error
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(max(1, min(self.options.max_concurrency, len(bodies)))) as pool:
            futures = [pool.submit(one, body) for body in bodies]
            try:
                outcomes = [future.result() for future in futures]
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        failed = [outcome for _, outcome in outcomes if isinstance(outcome, RowError)]
        if failed:
            self._keep(outcomes if len(outcomes) > 1 else [])
            raise failed[0]
        return [outcome for _, outcome in outcomes]  # type: ignore[misc]

    def _keep(self, outcomes: Sequence[tuple[str, Any]]) -> None:
        if outcomes:
            with _KEPT:
                self.kept.clear()
                for name, outcome in outcomes:
                    self.kept.setdefault(name, []).append(outcome)

    def _insist(self, data: bytes, read: Callable[[Any], T], stop: threading.Event) -> T:
        """The reply to one request, after as many attempts as it may take."""
        options, key = self.options, self.options._key()
        attempts, absent = 0, 0.0
        while not stop.is_set():
            try:
                status, reply = post(self.address, data, key, options.timeout)
                return read(_usable(status, reply, options))
            except Absent as error:
                pause = min(2.0, max(options.patience - absent, 0.01))
                if absent >= options.patience:
                    raise SetupError(
                        f"no server takes connections at {self.address.host}:{self.address.port} "
                        f"({error}); start it, or set base_url"
                    ) from error
                absent += pause
            except Passing as error:
                if attempts >= options.retries:
                    raise RowError(f"no answer after {attempts + 1} attempts: {error}", NO_ANSWER) from error
                pause = error.pause(options.backoff * 2**attempts)
                attempts, absent = attempts + 1, 0.0
            stop.wait(pause)
        raise SetupError("stopped, since another request found that the server cannot be used")


_KEPT = threading.Lock()


def _usable(status: int, reply: Any, options: OpenAIBackend) -> Any:
    """The reply to a request that was served; raises for one that was refused."""
    if status == 200:
        return reply
    if status in (401, 403):
        raise SetupError(f"the server refuses the key (status {status}); set the variable {options.api_key_env}")
    if status == 404:
        raise SetupError(f"the server knows no model {options.model_id!r} or no such path (status 404)")
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


def _answer(reply: Any) -> str:
    first = _first(reply)
    message, reason = first.get("message"), first.get("finish_reason")
    text = message.get("content") if isinstance(message, dict) else None
    if reason == "length":
        return (text if isinstance(text, str) else "") + CUT
    if not isinstance(text, str) or reason != "stop":
        raise Passing(f"the answer holds no text, or ended for the reason {reason!r}")
    return text


def _weights(reply: Any, choices: Sequence[str]) -> dict[str, float]:
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


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
