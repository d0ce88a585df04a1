"""The server backend: against a hostile server, and against a real `transformers serve` with a tiny model."""

import base64
import io
import json
import math
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

import pytest
from PIL import Image

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import CUT, Message, Request
from u2s_datasets.parts.backends.openai_backend import OpenAIBackend

FLAGS = ("TRUE", "FALSE")


class Server(ThreadingHTTPServer):
    """Answers as `how(body, number of the attempt for this body)` says: (status, headers, bytes), or None to hang."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, how: Callable[[dict, int], tuple[int, dict, bytes] | None], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.how, self.seen, self.tries = how, [], {}
        self.open, self.most, self.lock = 0, 0, threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def backend(self, **how: Any) -> OpenAIBackend:
        fast = {"timeout": 5.0, "retries": 2, "backoff": 0.01, "patience": 0.1}
        return OpenAIBackend("tiny", f"http://127.0.0.1:{self.server_port}/v1", **(fast | how))


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), json.loads(raw)))
            attempt = self.server.tries[raw] = self.server.tries.get(raw, 0) + 1
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
        try:
            answer = self.server.how(json.loads(raw), attempt)
        finally:
            with self.server.lock:
                self.server.open -= 1
        if answer is None:
            time.sleep(1.5)
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and closes them."""
    servers: list[Server] = []

    def start(how: Callable, port: int = 0) -> Server:
        servers.append(Server(how, port))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(words: str, picture: Image.Image | None = None, **how: Any) -> Request:
    return Request((Message("user", (words,) if picture is None else (picture, words)),), **how)


def said(text: str | None, reason: str | None = "stop", **more: Any) -> tuple[int, dict, bytes]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason} | more
    return 200, {}, json.dumps({"choices": [choice]}).encode()


def listed(**weights: float) -> tuple[int, dict, bytes]:
    top = [{"token": t.replace("_", " "), "logprob": math.log(p)} for t, p in weights.items()]
    return said("x", "length", logprobs={"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]})


def echo(body: dict, _: int) -> tuple[int, dict, bytes]:
    """The question, after a time that mixes up the order."""
    words = body["messages"][-1]["content"]
    time.sleep(hash(words) % 7 / 200)
    return said(f"about {words}")


def alone(backend: OpenAIBackend, requests: list[Request]) -> list[str]:
    """As a stage asks: all at once, and one by one where that fails; "!" and its code for a row that failed."""
    try:
        return backend.generate(requests)
    except RowError:
        return [_one(backend, request) for request in requests]


def _one(backend: OpenAIBackend, request: Request) -> str:
    try:
        return backend.generate([request])[0]
    except RowError as error:
        return f"!{error.code}"


def test_answers_come_in_order_and_bounded_in_number(serve):
    server = serve(echo)
    words = [f"row {i}" for i in range(60)]
    assert server.backend(max_concurrency=5).generate([ask(w) for w in words]) == [f"about {w}" for w in words]
    assert 1 < server.most <= 5


BROKEN = {
    "500": lambda: (500, {}, b"oh"),
    "empty": lambda: (200, {}, b""),
    "no JSON": lambda: (200, {}, b"<html>"),
    "a list": lambda: (200, {}, b"[]"),
    "no answers": lambda: (200, {}, b'{"choices": []}'),
    "two answers": lambda: (200, {}, json.dumps({"choices": [{"message": {"content": "a"}}] * 2}).encode()),
    "no text": lambda: said(None),
    "filtered": lambda: said("PRIVACY_FLAG: FALSE", "content_filter"),
    "no reason": lambda: said("PRIVACY_FLAG: FALSE", None),
    "cut short": lambda: (200, {"Content-Length": "9999"}, said("PRIVACY_FLAG: FALSE")[2]),
    "400": lambda: (400, {}, b'{"error": "too long"}'),
    "hangs": lambda: None,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_row_fails_alone(serve, kind):
    server = serve(lambda body, n: BROKEN[kind]() if "bad" in body["messages"][0]["content"] else echo(body, n))
    backend = server.backend(timeout=0.4, retries=1)
    words = ["row 0", "row 1", "bad 2", "row 3", "bad 4", "row 5"]
    expected = ["!no_answer" if "bad" in w else f"about {w}" for w in words]
    assert alone(backend, [ask(w) for w in words]) == expected
    # Asked one by one, nothing is sent again: not what was answered, and not what failed for good.
    assert max(server.tries.values()) <= 2
    assert sum(server.tries.values()) == 4 + 2 * (1 if kind == "400" else 2)


def test_a_reply_that_trickles_ends_at_the_deadline(serve):
    def trickle(body: dict, _: int) -> None:
        raise AssertionError

    server = serve(trickle)

    def do_POST(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    server.RequestHandlerClass = type("Slow", (_Handler,), {"do_POST": do_POST, "handle_error": None})
    server.handle_error = lambda *_: None
    start = time.monotonic()
    with pytest.raises(RowError, match="longer than"):
        server.backend(timeout=0.3, retries=0).generate([ask("row")])
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(serve, status):
    server = serve(lambda body, n: (status, {}, b"") if n < 3 else echo(body, n))
    assert server.backend().generate([ask("a"), ask("b")]) == ["about a", "about b"]


def test_retry_after_is_kept(serve):
    server = serve(lambda body, n: (429, {"Retry-After": "1"}, b"") if n == 1 else echo(body, n))
    start = time.monotonic()
    assert server.backend().generate([ask("a")]) == ["about a"]
    assert time.monotonic() - start >= 1.0


def test_a_server_that_is_not_there_stops_the_run(serve):
    server = serve(echo)
    backend = server.backend(patience=0.2)
    server.shutdown()
    server.server_close()
    with pytest.raises(SetupError, match="start it, or set base_url"):
        backend.generate([ask("a"), ask("b")])


def test_a_server_that_comes_back_is_waited_for(serve):
    first = serve(echo)
    backend = first.backend(patience=20.0, max_concurrency=2)
    words = [f"row {i}" for i in range(100)]
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(backend.generate([ask(w) for w in words])))
    thread.start()
    while len(first.seen) < 10:
        time.sleep(0.01)
    first.shutdown()
    first.server_close()
    time.sleep(0.5)
    serve(echo, first.server_port)
    thread.join(30)
    assert found == [[f"about {w}" for w in words]]


@pytest.mark.parametrize(("status", "remedy"), [(401, "OPENAI_API_KEY"), (404, "no model"), (307, "not followed")])
def test_a_refusal_of_all_stops_the_run(serve, status, remedy):
    other = serve(echo)
    there = {"Location": f"http://127.0.0.1:{other.server_port}/v1/chat/completions"}
    server = serve(lambda *_: (status, there, b""))
    with pytest.raises(SetupError, match=remedy):
        server.backend().generate([ask("a")])
    assert not other.seen


def test_proxies_of_the_environment_see_nothing(serve, monkeypatch):
    proxy, server = serve(echo), serve(echo)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    server.backend().generate([ask("a")])
    assert not proxy.seen and len(server.seen) == 1


def test_pictures_are_sent_whole_small_and_without_metadata(serve):
    server = serve(lambda *_: said("fine"))
    picture = Image.new("RGB", (400, 100), (200, 10, 10))
    picture.info["icc_profile"] = b"made by Anna"
    server.backend(max_pixels=10_000).generate([ask("private?", picture)])
    path, _, body = server.seen[0]
    image, words = body["messages"][0]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))))
    assert (path, sent.size, sent.getpixel((5, 5))) == ("/v1/chat/completions", (200, 50), (200, 10, 10))
    assert words == {"type": "text", "text": "private?"}
    assert "icc_profile" not in sent.info


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(serve, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    server = serve(lambda *_: (400, {}, b"no"))
    backend = server.backend(api_key_env="MY_KEY")
    with pytest.raises(RowError) as caught:
        backend.generate([ask("a")])
    assert server.seen[0][1]["Authorization"] == "Bearer sk-secret"
    shown = f"{caught.value} {backend!r} {backend.config()} {backend.loaded!r}".encode() + pickle.dumps(backend)
    assert b"sk-secret" not in shown


def test_a_distant_host_is_warned_of(monkeypatch):
    with pytest.warns(UserWarning, match=r"sent to example\.org, readable"):
        _ = OpenAIBackend("m", "http://example.org/v1").loaded
    with pytest.warns(UserWarning, match=r"sent to example\.org$"):
        _ = OpenAIBackend("m", "https://example.org/v1").loaded
    _ = OpenAIBackend("m", "http://localhost:1/v1").loaded
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(SetupError, match="travel readable"):
        OpenAIBackend("m", "http://example.org/v1").check()


@pytest.mark.parametrize(
    "url", ["", "ftp://x/v1", "http://", "http://me:pw@x/v1", "http://x:port/v1", "http://x?key=1"]
)
def test_a_wrong_address_is_refused(url):
    with pytest.raises(SetupError, match="base_url") as caught:
        OpenAIBackend("m", url).check()
    assert "pw" not in str(caught.value).replace("password", "")


def test_what_is_cut_off_says_so(serve):
    assert serve(lambda *_: said("PRIVACY_FLAG: FAL", "length")).backend().generate([ask("a")]) == [
        "PRIVACY_FLAG: FAL" + CUT
    ]


def test_a_begun_answer_is_continued_and_thinking_is_off(serve):
    server = serve(lambda *_: said("x"))
    begun = Request(
        (Message("user", ("a",)), Message("assistant", ("PRIVACY_FLAG:",))), temperature=0.5, seed=2**40 + 3
    )
    server.backend().generate([begun])
    body = server.seen[0][2]
    assert body["continue_final_message"] and not body["add_generation_prompt"]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["temperature"], body["seed"]) == (0.5, 3)
    server.backend(thinking=None).generate([ask("b")])
    assert not {"chat_template_kwargs", "continue_final_message", "seed"} & set(server.seen[1][2])


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ({"TRUE": 0.5, "_TRUE": 0.2, "_FALSE": 0.1}, (0.7, 0.1)),
        ({"TRUE": 0.9}, (0.9, 0.0)),
        ({"TR": 0.5, "FAL": 0.25, "F": 0.2}, (0.5, 0.25)),
        ({"F": 0.9, "_F": 0.05, "_": 0.01}, (0.0, 0.0)),
        ({"No": 0.9}, (0.0, 0.0)),
    ],
)
def test_choices_get_the_listed_probabilities(serve, top, expected):
    weights = serve(lambda *_: listed(**top)).backend().choose([ask("a")], FLAGS)[0]
    assert (weights["TRUE"], weights["FALSE"]) == pytest.approx(expected)


def test_a_server_without_probabilities_names_the_remedy(serve):
    with pytest.raises(SetupError, match='method="generate"'):
        serve(lambda *_: said("TRUE", "length")).backend().choose([ask("a")], FLAGS)


@pytest.mark.parametrize("top", [{"FALSE": 1.5}, {"FALSE": float("nan")}, {"FALSE": 0.9, "TRUE": 0.9}])
def test_impossible_probabilities_fail_their_row(serve, top):
    with pytest.raises(RowError):
        serve(lambda *_: listed(**top)).backend(retries=0).choose([ask("a")], FLAGS)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny language model."""
    for package in ("torch", "transformers", "uvicorn", "fastapi", "openai"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'transformers[serving]'")
    from tests.helpers.tiny_models import language

    return str(language.causal_lm(tmp_path_factory.mktemp("models") / "lm"))


def started(model: str, port: int) -> subprocess.Popen:
    """`transformers serve` with a model, once it answers."""
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", model]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return process
        except OSError:
            assert process.poll() is None, "transformers serve ended"
            time.sleep(0.1)
    process.kill()
    raise AssertionError("transformers serve does not answer")


def test_transformers_serve_is_stopped_and_started_again(tiny):
    idle = Server(echo)
    port = idle.server_port
    idle.shutdown()
    idle.server_close()
    backend = OpenAIBackend(tiny, f"http://127.0.0.1:{port}/v1", patience=120.0, retries=6, max_concurrency=2)
    requests = [ask("private? " * (1 + i % 5) + str(i), max_tokens=12) for i in range(40)]
    process, found = started(tiny, port), []
    try:
        thread = threading.Thread(target=lambda: found.append(alone(backend, requests)))
        first = backend.generate(requests[:3])
        thread.start()
        time.sleep(0.3)
        process.kill()
        process.wait()
        assert not found
        process = started(tiny, port)
        thread.join(120)
        with pytest.raises(SetupError, match='method="generate"'):
            backend.choose([ask("private?")], FLAGS)
        # Asked again one by one, the server says the same: no answer was swapped.
        again = [backend.generate([request])[0] for request in requests]
    finally:
        process.kill()
        process.wait()
    assert found == [again] and again[:3] == first
    assert len(set(again)) > 10
