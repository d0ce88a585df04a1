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
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Backend, Message, Request
from u2s_datasets.parts.backends.pictures import fitted
from u2s_datasets.parts.backends.posting import Absent, Address, Passing, post
from u2s_datasets.parts.backends.replies import NO_ANSWER, answer, usable, weights_of

T = TypeVar("T")
_TOP = 20  # the most alternatives that servers list per token


@dataclass(frozen=True)
class OpenAIBackend(Backend):
    """A model that a server runs. Requests are sent side by side; each waits for its own answer.

    Args:
        model: the model's name at the server.
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
        return self.loaded.ask(bodies, answer)

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
        return self.loaded.ask(bodies, lambda reply: weights_of(reply, choices))

    def _body(self, request: Request, max_tokens: int, temperature: float, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
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


class _Stopped(SetupError):
    """Another request of the batch failed for all."""


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
                errors = [error for future in futures if (error := future.exception())]
            except BaseException:
                stop.set()
                raise
        if errors:  # the one that stopped the others says what is wrong
            raise next((error for error in errors if not isinstance(error, _Stopped)), errors[0])
        outcomes = [future.result() for future in futures]
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
        attempts, absent_since = 0, math.inf
        while not stop.is_set():
            try:
                status, reply = post(self.address, data, key, options.timeout)
                return read(usable(status, reply, options.model, options.api_key_env))
            except Absent as error:
                absent_since = min(absent_since, time.monotonic())
                left = absent_since + options.patience - time.monotonic()
                if left <= 0:
                    raise SetupError(
                        f"no server takes connections at {self.address.host}:{self.address.port} "
                        f"({error}); start it, or set base_url"
                    ) from error
                pause = min(2.0, left)
            except Passing as error:
                if attempts >= options.retries:
                    raise RowError(f"no answer after {attempts + 1} attempts: {error}", NO_ANSWER) from error
                pause = error.pause(options.backoff * 2**attempts)
                attempts, absent_since = attempts + 1, math.inf
            stop.wait(pause)
        raise _Stopped("stopped, since another request found that the server cannot be used")


_KEPT = threading.Lock()


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
