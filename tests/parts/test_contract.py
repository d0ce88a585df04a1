"""The contract of parts: every part of the catalog keeps it, somebody else's does, and each way to break it is found.

What is on this machine runs in full, tiny networks of the real kinds included. A part whose weights or packages are
absent is checked as far as that needs no model, and has to say what to do about it.
"""

import importlib
import importlib.util
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage import data

from tests.helpers.codes import code
from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError
from u2s_datasets.parts import Backend, Category, Detection, Detector, Edit, Editor, Part, Request, catalog
from u2s_datasets.testing import CHOICES, check_configuration, check_part

KINDS = {
    "detector": catalog.DETECTORS,
    "backend": catalog.BACKENDS,
    "editor": catalog.EDITORS,
    "encoder": catalog.ENCODERS,
    "text check": catalog.TEXT_CHECKS,
}
CATALOG = [(kind, name) for kind, entries in KINDS.items() for name in entries]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "onnx_faces": {"file": "absent.onnx"},
    "openai": {"model": "tiny"},
    "scripted": {"default": "TRUE"},
    "transformers": {"model": "org/absent"},
    "vllm": {"model": "org/absent"},
}
"""Of parts that cannot be made without any."""

WRONG: dict[str, dict[str, Any]] = {
    "faces": {"flag_threshold": 7, "scales": (), "engine": "steam", "threads": 0},
    "text": {"flag_threshold": 60, "max_scale": 0, "engine": "steam", "grow": math.nan},
    "codes": {"flag_threshold": 7, "enlarge": 0.5},
    "people": {"flag_threshold": 7, "turns": (0, 4), "engine": "steam", "threads": 0},
    "dlib_faces": {"same": 1.5, "same_elsewhere": 0.1, "smallest": 0, "engine": "steam", "threads": 0},
    "openai": {"timeout": 0, "retries": -1, "max_pixels": "many"},
    "transformers": {"dtype": "int3", "attention": "none", "batch_size": 0},
    "vllm": {"dtype": "int3", "max_images": 0, "gpu_memory_utilization": 1.5},
    "presidio": {"score_threshold": 7},
    "solid": {"method": "smear", "cells": 0, "margin": math.nan},
    "flowedit": {"dtype": "int3", "batch_size": 0, "n_max": "all"},
    "instruct_edit": {"dtype": "int3", "num_inference_steps": 2.5},
    "freeprompt": {"self_replace_ratio": 7, "num_inference_steps": 0},
    "safe_instruct_pix2pix": {"guidance_scale": 1.0, "num_inference_steps": 0},
}

TINY: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "onnx_faces": ("metrics", "recognition", "file", {}),
    "clip": ("metrics", "clip", "model", {}),
    "lpips": ("metrics", "vgg", "trunk", {}),
    "transformers": ("language", "qwen_vl", "model", {"batch_size": 3}),
    "flowedit": ("dit", "sd3", "model", {"num_inference_steps": 3, "n_max": 2}),
    "instruct_edit": ("edit", "instruct_pix2pix", "model", {"num_inference_steps": 2}),
    "kontext": ("edit", "kontext", "model", {"num_inference_steps": 2}),
    "flux2-klein": ("edit", "flux2_klein", "model", {"num_inference_steps": 2}),
    "freeprompt": ("unet", "stable_diffusion", "model", {"num_inference_steps": 4}),
    "safe_instruct_pix2pix": ("unet", "instruct_pix2pix", "model", {"num_inference_steps": 2}),
}
"""Where a tiny network is made, its argument, and what makes the part quick."""

TOLERANCE = {"transformers": 1e-6, "clip": 1e-5, "lpips": 1e-5}
"""Float32 sums in another order. The editors take one image at a time on the CPU, so theirs are equal to the bit."""


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """A face, two words and a QR code; a photo with none of them."""
    face = Image.fromarray(data.astronaut()[20:260, 90:330])
    ImageDraw.Draw(face).text((12, 200), "MERIDIAN 42", fill="white", stroke_width=2, stroke_fill="black", font_size=28)
    face.paste(Image.fromarray(code("QRCode", "https://example.org/t/7", 3)), (150, 4))
    return [face, Image.fromarray(data.coffee()[:160, :200])]


class _Chat(BaseHTTPRequestHandler):
    """A chat-completions server with one answer."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        top = [{"token": token, "logprob": math.log(p)} for token, p in zip(CHOICES, (0.7, 0.2), strict=True)]
        choice = {
            "message": {"content": "TRUE"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"top_logprobs": top}]},
        }
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Chat)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path, monkeypatch):
    """A Hub cache without any model, and no key."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def installed(name: str) -> bool:
    """Whether the packages of a part's tiny network are here."""
    own = {"onnx_faces": ["onnx"], "clip": ["torch", "open_clip"], "lpips": ["torch", "torchvision", "lpips"]}
    return all(importlib.util.find_spec(package) for package in own.get(name, ["torch", "torchvision", "diffusers"]))


def made(kind: str, name: str, folder: Path, server: str) -> Part:
    """The part of this name, with a tiny network where there is one."""
    arguments = dict(ARGUMENTS.get(name, {}))
    if name == "openai":
        arguments["base_url"] = server
    if name in TINY and installed(name):
        module, network, argument, quick = TINY[name]
        if importlib.util.find_spec("torch"):
            importlib.import_module("torch").set_num_threads(1)  # as for other tiny networks, more are slower
        path = getattr(importlib.import_module(f"tests.helpers.tiny_models.{module}"), network)(folder / "network")
        arguments |= {argument: str(path), **quick, **({"dtype": "float32"} if kind == "editor" else {})}
    return catalog.make(kind, name, KINDS[kind], **arguments)


@pytest.mark.parametrize(("kind", "name"), CATALOG)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_every_part_of_the_catalog_keeps_the_contract(kind, name, tmp_path, server, photos):
    part = made(kind, name, tmp_path, server)
    try:
        part.check()
    except (MissingExtra, MissingWeights, SetupError) as error:
        assert any(remedy in str(error) for remedy in ("run: ", "give ", "install ")), error
        check_configuration(part)
    else:
        thumbnails = [image.resize(size) for image, size in zip(photos, ((80, 64), (64, 72)), strict=True)]
        images = thumbnails if name in TINY and name != "onnx_faces" else photos
        check_part(part, images, WRONG.get(name), TOLERANCE.get(name, 0.0))


def test_what_ships_with_the_package_runs_in_full(tmp_path, server):
    for name in (
        "faces",
        "text",
        "codes",
        "scripted",
        "openai",
        "redact",
        "solid",
        "pixelate",
        "blur",
        "inpaint",
        "onnx_faces",
    ):
        kind = next(kind for kind, entries in KINDS.items() if name in entries)
        made(kind, name, tmp_path, server).check()


def test_importing_the_suite_takes_no_test_framework_and_no_network():
    program = "import sys, u2s_datasets.testing; print([m for m in ('pytest', 'torch', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- somebody else's parts, and each of them broken in every way


@dataclass(frozen=True)
class Stamps(Detector):
    """Finds the bounding box of pure red."""

    flag_threshold: float = 0.5
    address: str = "http://127.0.0.1"
    fault: str = ""

    categories = (Category("stamp", "red stamps", "stamp", "stamps"),)
    shown = ("fault",)

    def check(self) -> None:
        if self.fault == "loads":
            self.loaded  # noqa: B018  the fault
        if self.fault == "raises":
            raise RuntimeError("no reason given")
        if not 0 < self.flag_threshold < 1 and self.fault != "accepts":
            value = "" if self.fault == "unnamed" else f"flag_threshold={self.flag_threshold!r}"
            raise SetupError(f"invalid {value}; expected a number between 0 and 1")

    def load(self) -> Any:
        return {"seen": 0}

    def config(self) -> dict[str, Any]:
        return super().config() | ({"address": self.address} if self.fault == "leaks" else {})

    def __getstate__(self) -> dict[str, Any]:
        model = {"fat": bytes(10**6)} if self.fault == "fat" else {"model": "_loaded" in vars(self)}
        return super().__getstate__() | (model if self.fault in ("fat", "used") else {})

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        self.loaded["seen"] += 1
        found = [self._find(image, i) for i, image in enumerate(images)]
        return found[:-1] if self.fault == "fewer" and len(images) > 1 else found

    def _find(self, image: np.ndarray, i: int) -> list[Detection]:
        ys, xs = np.nonzero((image == (255, 0, 0)).all(axis=2))
        if len(ys) == 0 or self.fault == "blind":
            return []
        box = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
        if self.fault == "writes":
            image[:] = 0
        category = "seal" if self.fault == "category" else "stamp"
        score = {"score": 1.5, "nan": math.nan, "order": 0.9 - i / 10}.get(self.fault, 0.9)
        boxes = {"infinite": (0.0, 0.0, math.inf, 9.0), "empty": (5.0, 5.0, 5.0, 9.0), "far": (900.0, 0.0, 950.0, 9.0)}
        return [Detection(category, boxes.get(self.fault, box), score)]


@dataclass
class Thawed(Detector):
    """Not frozen."""

    flag_threshold: float = 0.5


@dataclass(frozen=True)
class Forgetful(Stamps):
    """Another after pickling."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"fields": state["fields"] | {"address": ""}})


def stamped() -> list[Image.Image]:
    """Two noisy images with a red stamp, of different sizes."""
    images = []
    for size in ((60, 80), (50, 120)):
        array = np.random.default_rng(1).integers(40, 200, (*size, 3), dtype=np.uint8)
        array[15:35, 10:40] = (255, 0, 0)
        images.append(Image.fromarray(array))
    return images


DETECTOR_FAULTS = {
    "loads": "loads its model in check",
    "raises": "raises RuntimeError.* in check",
    "accepts": "accepts flag_threshold=7",
    "unnamed": "refuses flag_threshold=7 without naming the value",
    "leaks": r"shows the text of 'address' in config\(\)",
    "fat": "pickles to 10..... bytes",
    "used": "pickles to something else after its first use",
    "fewer": "gives 1 results for 2 rows",
    "blind": "finds nothing in images",
    "writes": "changes the inputs",
    "category": "finds 'seal', which is not in its categories",
    "score": "gives the score 1.5",
    "nan": "gives the score nan|gives another result",
    "order": "gives another result for row",
    "infinite": "gives the box .*inf",
    "empty": "gives the box .*5.0",
    "far": "gives the box .*900.0",
}


def test_somebody_elses_detector_keeps_the_contract():
    check_part(Stamps(), stamped(), {"flag_threshold": 7})
    check_part(Stamps(), wrong={"flag_threshold": 7})
    check_configuration(Stamps())


@pytest.mark.parametrize("fault", DETECTOR_FAULTS)
def test_a_broken_detector_is_found(fault):
    with pytest.raises(AssertionError, match=f"^Stamps ({DETECTOR_FAULTS[fault]})"):
        check_part(Stamps(fault=fault), stamped(), {"flag_threshold": 7})


def test_a_part_that_is_no_frozen_record_of_values_is_found():
    with pytest.raises(AssertionError, match="Thawed is not a frozen dataclass"):
        check_configuration(Thawed())
    with pytest.raises(AssertionError, match="Forgetful is another after pickling"):
        check_configuration(Forgetful())


@dataclass(frozen=True)
class Painter(Editor):
    """Paints its boxes in a colour that comes from the seed."""

    fault: str = ""

    redacts = True
    shown = ("fault",)

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        outputs = [self._paint(edit, i) for i, edit in enumerate(edits)]
        return outputs[:1] if self.fault == "fewer" else outputs

    def _paint(self, edit: Edit, i: int) -> Image.Image:
        output = edit.image.copy()
        colour = (edit.seed, i if self.fault == "order" else 7, 9)
        for x0, y0, x1, y1 in edit.boxes:
            box = (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1))
            output.paste(colour, (0, 0, 4, 4) if self.fault == "elsewhere" else box)
        if self.fault == "original":
            return edit.image.copy()
        if self.fault == "outside":
            output.putpixel((0, 0), (1, 2, 3))
        if self.fault == "writes":
            edit.image.paste(colour, (0, 0, 2, 2))
        kinds: dict[str, Callable[[], Any]] = {
            "size": lambda: output.resize((9, 9)),
            "mode": lambda: output.convert("L"),
            "array": lambda: np.asarray(output),
        }
        return kinds.get(self.fault, lambda: output)()


@dataclass(frozen=True)
class Rewriter(Editor):
    """Finds by itself what to change: it may change anything, or nothing in the boxes."""

    redacts = True
    obeys_boxes = False

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        outputs = [edit.image.copy() for edit in edits]
        for output in outputs:
            output.paste((0, 0, 0), (0, 0, 5, 5))
        return outputs


EDITOR_FAULTS = {
    "fewer": "gives 1 results for 2 rows",
    "order": "gives another result for row",
    "original": "gives the original back",
    "elsewhere": "changes nothing inside the box",
    "outside": "changes pixels outside its boxes",
    "writes": "changes the inputs",
    "size": r"gives <.*9x9.*> for an RGB image of \(80, 60\)",
    "mode": "gives <.*mode=L.*> for an RGB image",
    "array": "gives array",
}


def test_somebody_elses_editors_keep_the_contract():
    for editor in (Painter(), Rewriter()):
        check_part(editor, stamped())
        check_part(editor)


@pytest.mark.parametrize("fault", EDITOR_FAULTS)
def test_a_broken_editor_is_found(fault):
    with pytest.raises(AssertionError, match=f"^Painter {EDITOR_FAULTS[fault]}"):
        check_part(Painter(fault=fault), stamped())


@dataclass(frozen=True)
class Oracle(Backend):
    """Knows everything."""

    fault: str = ""

    shown = ("fault",)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        return [
            {"mute": None, "order": str(i)}.get(self.fault, "TRUE")  # type: ignore[misc]
            for i, _ in enumerate(requests)
        ]

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        chances = {"sum": (0.7, 0.7), "negative": (-0.1, 0.5), "nan": (math.nan, 0.5), "missing": (0.5,)}
        return [dict(zip(choices, chances.get(self.fault, (0.7, 0.2)), strict=False)) for _ in requests]


BACKEND_FAULTS = {
    "mute": "generates None, which is not a text",
    "order": "gives another result for row",
    "sum": "chooses .*0.7, .*0.7",
    "negative": "chooses .*-0.1",
    "nan": "gives another result|chooses .*nan",
    "missing": "chooses .*TRUE",
}


def test_somebody_elses_backend_keeps_the_contract():
    check_part(Oracle())


@pytest.mark.parametrize("fault", BACKEND_FAULTS)
def test_a_broken_backend_is_found(fault):
    with pytest.raises(AssertionError, match=f"^Oracle ({BACKEND_FAULTS[fault]})"):
        check_part(Oracle(fault=fault))


@dataclass(frozen=True)
class Means(Part):
    """Embeds images and texts as three numbers."""

    fault: str = ""

    shown = ("fault",)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images])
        return {"infinite": means + np.inf, "order": means * len(images)}.get(self.fault, means)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        width = 4 if self.fault == "width" else 3
        return np.array([[len(text)] * width for text in texts], np.float32)


@dataclass(frozen=True)
class Differences(Part):
    """The mean difference of two images."""

    least: float = 0.0

    def distances(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float | None]:
        return [float(np.abs(one.astype(float) - other).mean()) + self.least for one, other in pairs]


@dataclass(frozen=True)
class Idle(Part):
    """Does nothing that anyone knows."""


def test_somebody_elses_encoders_keep_the_contract():
    check_part(Means(), stamped())
    check_part(Differences(), stamped())


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Means("infinite"), "gives numbers that are not finite|gives another result"),
        (Means("order"), "gives another result for row"),
        (Means("width"), "gives embeddings of different widths"),
        (Differences(0.1), "sees a distance between an image and itself"),
        (Idle(), "is not a detector, an editor, a backend or an encoder"),
    ],
)
def test_a_broken_encoder_is_found(part, words):
    with pytest.raises(AssertionError, match=f"^{type(part).__name__} ({words})"):
        check_part(part, stamped())
