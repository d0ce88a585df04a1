"""The contract of parts, as checks for the tests of your own detector, editor, backend or encoder.

    from u2s_datasets.testing import check_part

    def test_my_detector_keeps_the_contract():
        check_part(MyDetector(), images=[photo_with_a_face, another], wrong={"flag_threshold": 7, "engine": "steam"})

`check_part` loads the part and uses it; `check_configuration` is the half that needs neither a model nor its packages.
Both raise an `AssertionError` that names the part and the rule that it breaks, and need no test framework.
"""

import contextlib
import dataclasses
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Detector, Edit, Editor, Message, Part, Request, TextCheck

CHOICES = ("TRUE", "FALSE")  # what a backend is asked to choose between


def check_part(
    part: Part,
    images: Sequence[Image.Image] | None = None,
    wrong: Mapping[str, Any] | None = None,
    tolerance: float = 0.0,
) -> None:
    """Check a part whose model can be loaded here.

    - Every kind: `check_configuration`, and the same pickled state before and after its first use. A batch gives
      what its rows give one by one, in any order, and leaves its inputs as they were.
    - A detector finds regions of its declared `categories`, with finite boxes that overlap their image and scores in
      [0, 1], in `detect` and `residue`.
    - An editor gives an RGB image of the same size, never the original. If it obeys boxes, something changes inside
      each box; if it also redacts, nothing changes outside them at the first attempt.
    - A backend generates one text per request, and chooses with a probability in [0, 1] for every choice, 1 in all
      at most. A scripted one has to answer "TRUE" or "FALSE".
    - An encoder (`embed_images` and `embed_texts`, `embed`, or `distances`) gives finite numbers: embeddings of one
      width, or distances that are 0 between an image and itself.

    Args:
        part: an object of your class, as small and fast as it can be made.
        images: upright images, two or more of different sizes; a detector or an encoder of faces must find something
            in them. By default noise, in which nothing has to be found.
        wrong: see `check_configuration`.
        tolerance: how far a number (grey level, score, coordinate, probability) may be from the same in another
            batch; 0 unless the part's documentation says otherwise.

    Raises:
        AssertionError: it breaks the contract.
        SetupError: its model cannot be loaded here.
    """
    check_configuration(part, wrong)
    before = pickle.dumps(part)
    kinds = ((Detector, _check_detector), (Editor, _check_editor), (Backend, _check_backend), (Part, _check_encoder))
    check = next(check for kind, check in kinds if isinstance(part, kind))
    found = check(part, [image.convert("RGB") for image in images or _noise()], tolerance)
    _require(found or images is None, part, "finds nothing in images that were given to find something in")
    _require(pickle.dumps(part) == before, part, "pickles to something else after its first use, so caches are missed")


def check_text_check(part: TextCheck, telling: str, harmless: str) -> None:
    """Check a recognizer of names.

    It finds something in the telling text and nothing in the harmless one, the same in a batch, in any order, as alone;
    every entity has a type, a place within its text and a score in [0, 1]; its pickled state is the same before and
    after.

    Args:
        part: an object of your class.
        telling: a text with a name that it knows.
        harmless: a text without any.

    Raises:
        AssertionError: it breaks the contract.
        SetupError: its model cannot be loaded here.
    """
    name, before = type(part).__name__, pickle.dumps(part)
    found = part.analyze([telling, harmless, ""])
    assert len(found) == 3, f"{name}.analyze gave {len(found)} answers to 3 texts"
    assert found[0] and not found[1] and not found[2], (
        f"{name} finds {found} in a telling, a harmless and an empty text"
    )
    for entity in found[0]:
        within = 0 <= entity.start < entity.end <= len(telling)
        assert entity.entity_type and within and 0 <= entity.score <= 1, f"{name} found {entity}"
    assert part.analyze([harmless, telling]) == [found[1], found[0]], f"{name} depends on the batch"
    assert part.holds_name(telling) and not part.holds_name(harmless), f"{name}.holds_name says otherwise"
    assert pickle.dumps(part) == before, f"{name} pickles differently after its first use"


def check_configuration(part: Part, wrong: Mapping[str, Any] | None = None) -> None:
    """Check what needs no model. Missing weights or packages are not a fault here.

    - It is a frozen dataclass that pickles to its configuration and comes back equal.
    - `config` shows no text of a field that is not in `shown`, such as a path or a key.
    - `check` loads no model, and raises nothing but `SetupError`.

    Args:
        part: any part.
        wrong: field -> a value that the part must refuse when it is made or by its `check`, in a `SetupError` that
            names the value.

    Raises:
        AssertionError: it breaks the contract.
    """
    frozen = getattr(getattr(part, "__dataclass_params__", None), "frozen", False)
    _require(isinstance(part, Part) and frozen, part, "is not a frozen dataclass below u2s_datasets.parts.Part")
    state = pickle.dumps(part)
    _require(len(state) <= 2**14, part, f"pickles to {len(state)} bytes, far more than a configuration has")
    _require(pickle.loads(state) == part, part, "is another after pickling")
    _setup_error(part)
    made: Any = part
    for field in dataclasses.fields(made):
        if str(field.type) in ("str", "str | None", "<class 'str'>") and field.name not in part.shown:
            with contextlib.suppress(SetupError):  # the class may refuse the text when it is made
                config = dataclasses.replace(made, **{field.name: "/home/alice/wedding of alice.jpg"}).config()
                _require("alice" not in str(config), part, f"shows the text of {field.name!r} in config()")
    for name, value in (wrong or {}).items():
        error = _setup_error(part, **{name: value})
        _require(error is not None, part, f"accepts {name}={value!r} instead of raising a SetupError in check()")
        _require(str(value) in str(error), part, f"refuses {name}={value!r} without naming the value: {error}")


def _setup_error(part: Any, **changes: Any) -> SetupError | None:
    """What a part like this one, with these changes, raises when it is made or checked."""
    loaded: list[Part] = []
    try:
        fresh = dataclasses.replace(part, **changes)
        object.__setattr__(fresh, "load", lambda: loaded.append(fresh))
        fresh.check()
    except SetupError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{type(part).__name__} raises {error!r} in check(); only SetupError may be") from error
    finally:
        _require(not loaded, part, "loads its model in check(), which runs before the first row")
    return None


def _check_detector(part: Any, images: list[Image.Image], tolerance: float) -> bool:
    arrays = [np.array(image) for image in images]
    found = _in_any_order(part, part.detect, arrays, tolerance)
    boxes = [[d.box for d in detections] or [(0.0, 0.0, 8.0, 8.0)] for detections in found]
    for array, detections in zip([*arrays, *arrays], [*found, *part.residue(arrays, boxes)], strict=True):
        for d in detections:
            _require(d.category in part.category_names, part, f"finds {d.category!r}, which is not in its categories")
            _require(0 <= d.score <= 1, part, f"gives the score {d.score}, which is not in [0, 1]")
            _check_box(part, d.box, array)
    return any(found)


def _check_box(part: Any, box: Any, array: np.ndarray) -> None:
    proper = len(box) == 4 and all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]
    overlaps = proper and box[0] < array.shape[1] and box[1] < array.shape[0] and box[2] > 0 and box[3] > 0
    _require(overlaps, part, f"gives the box {box} in an image of {array.shape[1]}x{array.shape[0]} pixels")


def _check_editor(part: Any, images: list[Image.Image], tolerance: float) -> bool:
    boxes = [(0.25 * image.width, 0.25 * image.height, 0.7 * image.width, 0.65 * image.height) for image in images]
    edits = [
        Edit(image, "a person", "another person", "replace the person", "another person", (box,), seed)
        for seed, (image, box) in enumerate(zip(images, boxes, strict=True))
    ]
    for edit, output in zip(edits, _in_any_order(part, part.edit, edits, tolerance), strict=True):
        proper = isinstance(output, Image.Image) and output.mode == "RGB" and output.size == edit.image.size
        _require(proper, part, f"gives {output!r} for an RGB image of {edit.image.size}")
        changed = (np.asarray(output) != np.asarray(edit.image)).any(axis=2)
        _require(changed.any(), part, "gives the original back")
        (left, top), (right, bottom) = np.floor(edit.boxes[0][:2]).astype(int), np.ceil(edit.boxes[0][2:]).astype(int)
        inside = changed[top:bottom, left:right].any()
        _require(inside or not part.obeys_boxes, part, "changes nothing inside the box that it was given")
        changed[top:bottom, left:right] = False
        outside = part.redacts and part.obeys_boxes and changed.any()
        _require(not outside, part, "changes pixels outside its boxes; set obeys_boxes = False if it must")
    return True


def _check_backend(part: Any, images: list[Image.Image], tolerance: float) -> bool:
    shown: list[tuple[Any, ...]] = [(), *((image,) for image in images if part.sees), ()]
    requests = [  # texts of different lengths, since a batch pads them
        Request((Message("user", (*shown[i], "Is it private? " * (i + 1))), Message("assistant", ("It is",))), 8)
        for i in range(len(shown))
    ]
    for text in _in_any_order(part, part.generate, requests, tolerance):
        _require(isinstance(text, str), part, f"generates {text!r}, which is not a text")
    for chances in _in_any_order(part, lambda batch: part.choose(batch, CHOICES), requests, tolerance):
        proper = set(chances) == set(CHOICES) and min(chances.values()) >= 0 and sum(chances.values()) <= 1 + 1e-6
        _require(proper, part, f"chooses {chances}, which are not probabilities of the choices {CHOICES}")
    return True


def _check_encoder(part: Any, images: list[Image.Image], tolerance: float) -> bool:
    arrays = [np.array(image) for image in images]
    if hasattr(part, "embed_images"):
        numbers = _in_any_order(part, part.embed_images, images, tolerance)
        numbers += _in_any_order(part, part.embed_texts, ["a person", "two cats on a couch"], tolerance)
    elif hasattr(part, "embed"):
        faces = _in_any_order(part, part.embed, arrays, tolerance)
        for array, face in ((array, face) for array, found in zip(arrays, faces, strict=True) for face in found):
            _check_box(part, face.box, array)
        numbers = [face.embedding for found in faces for face in found]
    else:
        _require(hasattr(part, "distances"), part, "is not a detector, an editor, a backend or an encoder")
        pairs = [pair for array in arrays for pair in ((array, array), (array, 255 - array))]
        numbers = [d for d in _in_any_order(part, part.distances, pairs, tolerance) if d is not None]
        _require(not any(numbers[::2]), part, "sees a distance between an image and itself")
    _require(all(np.isfinite(n).all() for n in numbers), part, "gives numbers that are not finite")
    _require(len({np.shape(n) for n in numbers}) <= 1, part, "gives embeddings of different widths")
    return bool(numbers)


def _in_any_order(part: Any, work: Callable[[list[Any]], Any], items: list[Any], tolerance: float) -> list[Any]:
    """The results of a batch, which are also those of its rows one by one and in reverse."""
    before = pickle.dumps(items)
    results = list(work(items))
    _require(len(results) == len(items), part, f"gives {len(results)} results for {len(items)} rows")
    _require(pickle.dumps(items) == before, part, "changes the inputs that it was given")
    alone = [work([item])[0] for item in items]
    reverse = list(work(items[::-1]))[::-1]
    for i, result in enumerate(results):
        same = _is_close(result, alone[i], tolerance) and _is_close(result, reverse[i], tolerance)
        _require(same, part, f"gives another result for row {i} of a batch than for the row alone, or in reverse order")
    return results


def _is_close(one: Any, other: Any, tolerance: float) -> bool:
    if dataclasses.is_dataclass(one):
        one, other = vars(one), vars(other)
    if isinstance(one, Mapping):
        one, other = sorted(one.items()), sorted(other.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_is_close(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, (str, type(None))):
        return one == other
    return np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=0, atol=tolerance)


def _noise() -> list[Image.Image]:
    shapes = ((64, 96, 3), (80, 64, 3), (75, 130, 3))
    return [Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)) for shape in shapes]


def _require(condition: Any, part: Any, message: str) -> None:
    if not condition:
        raise AssertionError(f"{type(part).__name__} {message}")
