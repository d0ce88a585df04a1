"""One POST of JSON to one address, by the standard library: no redirects, no proxies, one deadline for all of it."""

import contextlib
import datetime
import email.utils
import http.client
import json
import random
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import SplitResult

_MAX_BYTES = 16 * 2**20  # of a reply
_MAX_RETRY_AFTER = 120.0  # seconds; a server that asks for more is asked again after that
_TRANSIENT = {408, 425, 429}  # statuses that another attempt may change, as may 5xx


class Unreachable(Exception):
    """The address takes no connections."""


class Transient(Exception):
    """A failure that another attempt may mend.

    Args:
        message: what happened.
        retry_after: seconds that the server asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def pause(self, default: float) -> float:
        """Seconds to wait: what the server asked for, else `default` times a random factor from 0.5 to 1.5."""
        jitter = random.Random().random()
        asked = self.retry_after
        return default * (0.5 + jitter) if asked is None else min(asked, _MAX_RETRY_AFTER) + 0.1 * jitter


def post(url: SplitResult, data: bytes, key: str, timeout: float) -> tuple[int, Any]:
    """The status and the JSON of the reply (None for a refusal without JSON).

    Args:
        url: of "http" or "https".
        data: the body.
        key: sent as a bearer token, unless it is "".
        timeout: seconds for all of it.

    Raises:
        Unreachable: no connection could be made.
        Transient: it broke off, took longer than `timeout` seconds, or came with a status that may change.
    """
    connection_class = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(str(url.hostname), url.port, timeout=timeout)
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(f"its certificate cannot be trusted: {error.verify_message}") from error
    except OSError as error:
        raise Unreachable(type(error).__name__) from error
    # A socket's own timeout starts anew at every byte; only this ends a reply that trickles.
    deadline = time.monotonic() + timeout
    timer = threading.Timer(timeout, _hang_up, (connection.sock,))
    timer.daemon = True
    timer.start()
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request("POST", url.path, data, headers | ({"Authorization": f"Bearer {key}"} if key else {}))
        response = connection.getresponse()
        raw = b""
        while len(raw) <= _MAX_BYTES and (chunk := response.read(65536)):
            raw += chunk
        # A reply without a length ends when the connection does: cut short by the timer, it looks whole.
        if len(raw) > _MAX_BYTES or time.monotonic() >= deadline:
            raise Transient(f"the reply took longer than {timeout:g} s or more than {_MAX_BYTES} bytes")
        if response.length:
            raise Transient("the reply is shorter than it says")
    except (OSError, http.client.HTTPException) as error:
        late = time.monotonic() >= deadline
        reason = f"the reply took longer than {timeout:g} s" if late else "the connection failed"
        raise Transient(f"{reason}: {type(error).__name__}") from error
    finally:
        timer.cancel()
        connection.close()
    return response.status, _read(response, raw)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse, raw: bytes) -> Any:
    """The JSON of a reply that came whole."""
    if response.status in _TRANSIENT or response.status >= 500:
        raise Transient(f"status {response.status}", _seconds(response.headers.get("Retry-After")))
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        if response.status != 200:
            return None
        raise Transient(f"a reply of {len(raw)} bytes is not JSON") from error


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None if it is neither."""
    if not retry_after:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(retry_after))
    with contextlib.suppress(ValueError):
        date = email.utils.parsedate_to_datetime(retry_after)
        return max(0.0, (date - datetime.datetime.now(date.tzinfo)).total_seconds())
    return None
