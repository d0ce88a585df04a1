"""Short names of parts: what `--editor solid`, a profile or a recorded run means by a name.

A part of somebody else needs no entry: its name is "package.module:Class".
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from u2s_datasets import parts
from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from u2s_datasets.parts import Category, Detector

Entry = tuple[str, dict[str, Any]]
"""("package.module:Class", constructor arguments that differ from the class's own defaults)."""


def _entry(path: str, **arguments: Any) -> Entry:
    return f"u2s_datasets.parts.{path}", arguments


DETECTORS: dict[str, Entry] = {
    "faces": _entry("detectors.faces:Faces"),
    "text": _entry("detectors.text:Text"),
    "codes": _entry("detectors.codes:Codes"),
    "people": _entry("detectors.people:People"),
}

BACKENDS: dict[str, Entry] = {
    "openai": _entry("backends.openai_backend:OpenAIBackend"),
    "scripted": _entry("backends.scripted:Scripted"),
    "transformers": _entry("backends.transformers_backend:TransformersBackend"),
    "vllm": _entry("backends.vllm_backend:VLLMBackend"),
}

ENCODERS: dict[str, Entry] = {
    "clip": _entry("metrics.encoders:ClipEncoder"),
    "dlib_faces": _entry("metrics.dlib_faces:DlibFaces"),
    "insightface": _entry("metrics.face_encoders:InsightFace"),
    "lpips": _entry("metrics.encoders:LpipsNetwork"),
    "onnx_faces": _entry("metrics.face_encoders:OnnxFaces"),
}
"""The networks of the metrics."""

EDITORS: dict[str, Entry] = {
    "redact": _entry("editors.redact:Redact"),
    "solid": _entry("editors.redact:Redact", method="solid"),
    "pixelate": _entry("editors.redact:Redact", method="pixelate"),
    "blur": _entry("editors.redact:Redact", method="blur"),
    "inpaint": _entry("editors.redact:Redact", method="inpaint"),
    "flowedit": _entry("editors.flowedit:FlowEdit"),
    "ominicontrol": _entry("editors.ominicontrol:OminiControl"),
    "instruct_edit": _entry("editors.instruct_edit:InstructEdit"),
    "instruct-pix2pix": _entry("editors.instruct_edit:InstructEdit", dtype="float16"),
    "kontext": _entry("editors.instruct_edit:InstructEdit", model="black-forest-labs/FLUX.1-Kontext-dev"),
    "flux2-klein": _entry("editors.instruct_edit:InstructEdit", model="black-forest-labs/FLUX.2-klein-4B"),
    "qwen-image-edit": _entry("editors.instruct_edit:InstructEdit", model="Qwen/Qwen-Image-Edit-2511"),
    "deface": _entry("editors.external:Deface"),
    "deepprivacy2": _entry("editors.external:DeepPrivacy2"),
    "faceanonsimple": _entry("editors.external:FaceAnonSimple"),
    "freeprompt": _entry("editors.freeprompt:FreePrompt"),
    "safe_instruct_pix2pix": _entry("editors.safe_attention:SafeInstructPix2Pix"),
}

TEXT_CHECKS: dict[str, Entry] = {
    "presidio": _entry("text_checks.presidio:PresidioText"),
}


@functools.cache
def known_detectors() -> tuple[Detector, ...]:
    """Every detector of this catalog, not loaded."""
    return tuple(make("detector", name, DETECTORS) for name in DETECTORS)


@functools.cache
def known_categories() -> dict[str, Category]:
    """The categories that the detectors of this catalog find, by name, in the catalog's order."""
    return {c.name: c for detector in known_detectors() for c in detector.categories if isinstance(c, parts.Category)}


def category_of(given: Category | str) -> Category:
    """The category of that name in the catalog, or one that says no more than its name; a record as it is."""
    return given if isinstance(given, parts.Category) else known_categories().get(given, parts.Category(given, given))


def make(kind: str, name: str, entries: dict[str, Entry], **arguments: Any) -> Any:
    """The part of this name.

    Args:
        kind: what it is, for errors: "detector", "editor", "backend", "encoder" or "text check".
        name: a key of `entries`, or "package.module:Class".
        entries: `DETECTORS`, `EDITORS`, `BACKENDS`, `ENCODERS` or `TEXT_CHECKS`.
        arguments: constructor arguments, which go before those of the catalog.

    Raises:
        SetupError: the name is unknown, cannot be imported, or is not the name of such a part.
    """
    path, defaults = entries.get(name, (name, {})) if isinstance(name, str) else ("", {})
    if ":" not in path:
        raise SetupError(f"unknown {kind} {name!r}; expected one of: {', '.join(entries)}, or 'package.module:Class'")
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # the last two for such as ':X' and '.a:X'
        raise SetupError(
            f"{kind} {name!r} cannot be imported: {error}; check the names, and that PYTHONPATH has its folder"
        ) from error
    bases: dict[str, type[parts.Part]] = {
        "detector": parts.Detector,
        "editor": parts.Editor,
        "backend": parts.Backend,
        "text check": parts.TextCheck,
    }
    base = bases.get(kind, parts.Part)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise SetupError(f"{kind} {name!r} is of another kind; give a subclass of u2s_datasets.parts.{base.__name__}")
    return cls(**(defaults | arguments))


def make_detectors(
    names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Detector, ...]:
    """The detectors of these names.

    Args:
        names: of `DETECTORS`, or "package.module:Class".
        options: name -> arguments that differ from the detector's own.

    Raises:
        SetupError: options of another detector, or one that it does not have.
    """
    for name in options or {}:
        if name not in names:
            raise SetupError(f"detector_options[{name!r}]: no such detector here; those in use: {', '.join(names)}")
    made = []
    for name in names:
        detector, given = make("detector", name, DETECTORS), dict((options or {}).get(name, {}))
        fields = {f.name for f in dataclasses.fields(detector)} - {"engine", "threads"}
        for option in given:
            if option not in fields:
                raise SetupError(f"the detector {name!r} has no option {option!r}; it has: {', '.join(sorted(fields))}")
        made.append(dataclasses.replace(detector, **given))
    return tuple(made)
