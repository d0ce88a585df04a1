"""One POST of JSON to one address, by the standard library: no redirects, no proxies, one deadline for all of it."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import json
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

_MOST = 16 * 2**20  # bytes of a reply
_LONGEST = 120.0  # seconds that a server may ask to be left alone
_AGAIN = {408, 425, 429}


@dataclass(frozen=True)
class Address:
    """Where to send."""

    tls: bool
    host: str
    port: int
    path: str


class Absent(Exception):
    """Nobody takes connections there."""


class Passing(Exception):
    """A failure that another attempt may mend.

    Args:
        message: what happened.
        after: seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after

    def pause(self, otherwise: float) -> float:
        """Seconds to wait: what the server asked for, else `otherwise` times something from 0.5 to 1.5."""
        jitter = random.Random().random()
        return otherwise * (0.5 + jitter) if self.after is None else min(self.after, _LONGEST) + 0.1 * jitter


def post(address: Address, data: bytes, key: str, timeout: float) -> tuple[int, Any]:
    """The status and the JSON of the reply (None where a refusal holds no JSON).

    Raises:
        Absent: no connection could be made.
        Passing: it broke off, took longer than `timeout` seconds, or came with a status that passes.
    """
    kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
    connection = kind(address.host, address.port, timeout=timeout)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise Absent(f"its certificate is not to be trusted: {error.verify_message}") from error
    except OSError as error:
        raise Absent(type(error).__name__) from error
    # A socket's own timeout starts anew at every byte: only this ends a reply that trickles.
    deadline = time.monotonic() + timeout
    timer = threading.Timer(timeout, _hang_up, (connection.sock,))
    timer.daemon = True
    timer.start()
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        connection.request("POST", address.path, data, headers)
        response = connection.getresponse()
        raw = b""
        while len(raw) <= _MOST and (chunk := response.read(65536)):
            raw += chunk
        # A reply without a length ends where the connection does: cut short by the timer, it looks whole.
        if len(raw) > _MOST or time.monotonic() >= deadline:
            raise Passing(f"the reply took longer than {timeout:g} s or more than {_MOST} bytes")
        if response.length:
            raise Passing("the reply is shorter than it says")
    except (OSError, http.client.HTTPException) as error:
        late = time.monotonic() >= deadline
        why = f"the reply took longer than {timeout:g} s" if late else "the connection failed"
        raise Passing(f"{why}: {type(error).__name__}") from error
    finally:
        timer.cancel()
        connection.close()
    if response.status in _AGAIN or response.status >= 500:
        raise Passing(f"status {response.status}", _seconds(response.headers.get("Retry-After")))
    return response.status, _json(raw, response.status)


def _json(raw: bytes, status: int) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        if status != 200:
            return None
        raise Passing(f"a reply of {len(raw)} bytes is no JSON") from error


def _hang_up(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        return  # closed already


def _seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After, which is a number or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    now = datetime.datetime.now(then.tzinfo)
    return max(0.0, (then - now).total_seconds())
