"""Privacy-safe image datasets: inspect, caption, instruct, anonymize, score, and publish what is proven safe.

    ds = ds.map(u2s.anonymize, batched=True)

Everything is imported at first use, so that `import u2s_datasets` is light.
"""

import importlib
from typing import Any

_LAZY = {
    "Anonymize": "stages.anonymize",
    "Caption": "stages.caption",
    "Gate": "stages.quality_gate",
    "Inspect": "stages.inspect",
    "Instruct": "stages.instruct",
    "Score": "stages.score",
    "Backend": "parts",
    "Detection": "parts",
    "Detector": "parts",
    "Edit": "parts",
    "Editor": "parts",
    "Message": "parts",
    "Part": "parts",
    "Request": "parts",
    "TextCheck": "parts",
    "OpenAIBackend": "parts.backends.openai_backend",
    "Scripted": "parts.backends.scripted",
    "TransformersBackend": "parts.backends.transformers_backend",
    "VLLMBackend": "parts.backends.vllm_backend",
    "Codes": "parts.detectors.codes",
    "Faces": "parts.detectors.faces",
    "People": "parts.detectors.people",
    "Text": "parts.detectors.text",
    "Deface": "parts.editors.external",
    "DeepPrivacy2": "parts.editors.external",
    "ExternalEditor": "parts.editors.external",
    "FaceAnonSimple": "parts.editors.external",
    "FlowEdit": "parts.editors.flowedit",
    "InstructEdit": "parts.editors.instruct_edit",
    "OminiControl": "parts.editors.ominicontrol",
    "Redact": "parts.editors.redact",
    "ClipEncoder": "parts.metrics.encoders",
    "DlibFaces": "parts.metrics.dlib_faces",
    "FaceEncoder": "parts.metrics.face_encoders",
    "InsightFace": "parts.metrics.face_encoders",
    "LpipsNetwork": "parts.metrics.encoders",
    "OnnxFaces": "parts.metrics.face_encoders",
    "Entity": "privacy.recognizers",
    "PresidioText": "parts.text_checks.presidio",
    "FreePrompt": "parts.editors.freeprompt",
    "SafeInstructPix2Pix": "parts.editors.safe_attention",
    "load_criteria": "privacy.criteria",
    "Profile": "stages.profiles",
    "apply_reviews": "review.decisions",
    "review_again": "review.decisions",
    "from_fiftyone": "review.fiftyone_app.convert",
    "to_fiftyone": "review.fiftyone_app.convert",
    "profile": "stages.profiles",
    "VisprResult": "evaluation.vispr.evaluate",
    "evaluate_vispr": "evaluation.vispr.evaluate",
    "Report": "evaluation.report.report",
    "report": "evaluation.report.report",
    "run": "executor.run",
    "Pool": "executor.pools",
    "ray_anonymize": "executor.run",
    "push_to_hub": "publish.push",
    "model_card": "publish.push",
    "Refused": "publish.push",
    "HubError": "publish.push",
    "EditFailed": "errors",
    "MissingExtra": "errors",
    "MissingWeights": "errors",
    "PartlyFailed": "errors",
    "ResidueFound": "errors",
    "RowError": "errors",
    "SetupError": "errors",
    "U2SError": "errors",
    "UnparsableAnswer": "errors",
    "UnreadableImage": "errors",
}
_STEPS = ("inspect", "caption", "instruct", "anonymize", "score")

__all__ = sorted([*_LAZY, *_STEPS])


def __getattr__(name: str) -> Any:
    if name in _STEPS:
        value = getattr(importlib.import_module("u2s_datasets.stages.profiles").profile(), name)
    elif name == "__version__":
        from importlib.metadata import version  # a third of this package's import time

        value = version("u2s_datasets")
    elif name in _LAZY:
        value = getattr(importlib.import_module(f"u2s_datasets.{_LAZY[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
