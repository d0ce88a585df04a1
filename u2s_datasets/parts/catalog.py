"""Short names of parts. A name is ("module:Class", its arguments); anybody's "package.module:Class" works as well."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Category, Detector, Editor, Part

Entry = tuple[str, dict[str, Any]]

DETECTORS: dict[str, Entry] = {
    "faces": ("u2s_datasets.parts.detectors.faces:Faces", {}),
    "text": ("u2s_datasets.parts.detectors.text:Text", {}),
}

BACKENDS: dict[str, Entry] = {
    "openai": ("u2s_datasets.parts.backends.openai_backend:OpenAIBackend", {}),
    "scripted": ("u2s_datasets.parts.backends.scripted:Scripted", {}),
    "transformers": ("u2s_datasets.parts.backends.transformers_backend:TransformersBackend", {}),
    "vllm": ("u2s_datasets.parts.backends.vllm_backend:VLLMBackend", {}),
}

ENCODERS: dict[str, Entry] = {
    "clip": ("u2s_datasets.parts.metrics.encoders:ClipEncoder", {}),
    "insightface": ("u2s_datasets.parts.metrics.face_encoders:InsightFace", {}),
    "lpips": ("u2s_datasets.parts.metrics.encoders:LpipsNetwork", {}),
    "onnx_faces": ("u2s_datasets.parts.metrics.face_encoders:OnnxFaces", {}),
}
"""The networks of the metrics."""

EDITORS: dict[str, Entry] = {
    "redact": ("u2s_datasets.parts.editors.redact:Redact", {}),
    "solid": ("u2s_datasets.parts.editors.redact:Redact", {"method": "solid"}),
    "pixelate": ("u2s_datasets.parts.editors.redact:Redact", {"method": "pixelate"}),
    "blur": ("u2s_datasets.parts.editors.redact:Redact", {"method": "blur"}),
    "inpaint": ("u2s_datasets.parts.editors.redact:Redact", {"method": "inpaint"}),
    "flowedit": ("u2s_datasets.parts.editors.flowedit:FlowEdit", {}),
    "ominicontrol": ("u2s_datasets.parts.editors.ominicontrol:OminiControl", {}),
    "instruct_edit": ("u2s_datasets.parts.editors.instruct_edit:InstructEdit", {}),
    "instruct-pix2pix": ("u2s_datasets.parts.editors.instruct_edit:InstructEdit", {"dtype": "float16"}),
    "kontext": (
        "u2s_datasets.parts.editors.instruct_edit:InstructEdit",
        {"model": "black-forest-labs/FLUX.1-Kontext-dev"},
    ),
    "flux2-klein": (
        "u2s_datasets.parts.editors.instruct_edit:InstructEdit",
        {"model": "black-forest-labs/FLUX.2-klein-4B"},
    ),
    "qwen-image-edit": (
        "u2s_datasets.parts.editors.instruct_edit:InstructEdit",
        {"model": "Qwen/Qwen-Image-Edit-2511"},
    ),
    "deface": ("u2s_datasets.parts.editors.external:Deface", {}),
    "deepprivacy2": ("u2s_datasets.parts.editors.external:DeepPrivacy2", {}),
    "faceanonsimple": ("u2s_datasets.parts.editors.external:FaceAnonSimple", {}),
    "freeprompt": ("u2s_datasets.parts.editors.freeprompt:FreePrompt", {}),
    "safe_instruct_pix2pix": ("u2s_datasets.parts.editors.safe_attention:SafeInstructPix2Pix", {}),
}

_BASES: dict[str, type[Part]] = {"detector": Detector, "editor": Editor, "backend": Backend}


@functools.cache
def known_detectors() -> tuple[Detector, ...]:
    """Every detector of this catalog, not loaded."""
    return tuple(make("detector", name, DETECTORS) for name in DETECTORS)


@functools.cache
def known_categories() -> dict[str, Category]:
    """Name -> what the detectors of this catalog find, in its order."""
    return {c.name: c for detector in known_detectors() for c in detector.categories if isinstance(c, Category)}


def category_of(given: Category | str) -> Category:
    """The record of a category that is given by its name alone: the catalog's, else one without more words."""
    return given if isinstance(given, Category) else known_categories().get(given, Category(given, given))


def make(kind: str, name: str, entries: dict[str, Entry], **arguments: Any) -> Any:
    """The part of this name.

    Args:
        kind: the word for it in errors, such as "editor".
        name: a key of `entries`, or "package.module:Class".
        entries: `DETECTORS`, `BACKENDS`, `ENCODERS` or `EDITORS`.
        arguments: constructor arguments over those of the catalog.

    Raises:
        SetupError: there is no such part, or it is no part.
    """
    if not isinstance(name, str):
        raise SetupError(f"{kind} {name!r} is no name; use one of: {', '.join(entries)}, or 'package.module:Class'")
    if name in entries:
        path, defaults = entries[name]
    elif ":" in name:
        path, defaults = name, {}
    else:
        raise SetupError(f"unknown {kind} {name!r}; use one of: {', '.join(entries)}, or 'package.module:Class'")
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SetupError(
            f"{kind} {name!r} cannot be imported: {error}; check the names, and that PYTHONPATH has its folder"
        ) from error
    base = _BASES.get(kind, Part)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise SetupError(f"{kind} {name!r} is no subclass of u2s_datasets.parts.{base.__name__}; give one that is")
    return cls(**{**defaults, **arguments})
