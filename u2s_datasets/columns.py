"""Every column name in one place, its type, and whether it may leave.

What is published is built by allowlist from `PUBLIC`; a column that is not named here is private.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Features

IMAGE = "image"

PRIVACY_FLAG = "privacy_flag"
PRIVACY_SCORE = "privacy_score"
PRIVACY_REVIEW = "privacy_review"

PRIVATE_CAPTION = "private_caption"
PUBLIC_CAPTION = "public_caption"

EDIT_INSTRUCTION = "edit_instruction"
EDIT_CAPTION = "edit_caption"

ANONYMIZED_IMAGE = "anonymized_image"
STATUS = "anonymization_status"
NOTE = "anonymization_note"
SEED = "anonymization_seed"
PROVENANCE = "provenance"

CLIP_SIMILARITY = "clip_similarity"
CLIP_RATIO = "clip_ratio"
SSIM = "ssim"
LPIPS = "lpips"
FACE_SIMILARITY = "face_similarity"
FACES_BEFORE = "faces_before"
FACES_AFTER = "faces_after"
FACES_MATCHED = "faces_matched"
FACES_VANISHED = "faces_vanished"
FACES_NEW = "faces_new"
FACES_SAME = "faces_same"
TEXT_SIMILARITY = "text_similarity"
TEXT_RECALL = "text_recall"
VLM_SCORE = "vlm_score"
RESIDUAL_FACES = "residual_faces"
RESIDUAL_TEXT = "residual_text"

RACE_BEFORE = "race_before"
RACE_AFTER = "race_after"

REVIEW_DECISION = "review_decision"
REVIEW_BY = "review_by"
REVIEW_AT = "review_at"

ROW_ID = "row_id"
SOURCE = "source"
REASON = "reason_code"

INSPECT = (PRIVACY_FLAG, PRIVACY_SCORE, PRIVACY_REVIEW)
CAPTION = (PRIVATE_CAPTION, PUBLIC_CAPTION)
INSTRUCT = (EDIT_INSTRUCTION, EDIT_CAPTION)
ANONYMIZE = (ANONYMIZED_IMAGE, STATUS, NOTE, SEED, PROVENANCE)
FACES = (FACES_BEFORE, FACES_AFTER, FACES_MATCHED, FACES_VANISHED, FACES_NEW, FACES_SAME)
"""How the faces of an original and of its edited image were matched; counts."""
SCORE = (
    CLIP_SIMILARITY,
    CLIP_RATIO,
    SSIM,
    LPIPS,
    FACE_SIMILARITY,
    *FACES,
    TEXT_SIMILARITY,
    TEXT_RECALL,
    VLM_SCORE,
    RESIDUAL_FACES,
    RESIDUAL_TEXT,
)
RACE = (RACE_BEFORE, RACE_AFTER)
"""What a model calls the people of an image, by the words of its prompt; [] where it shows nobody. Private."""

UNMEASURED = "unmeasured"
"""Of `private/eval.parquet`: JSON, score -> the reason code why this row could not be measured; null for a row that
`u2s eval` did not see."""

REVIEW = (REVIEW_DECISION, REVIEW_BY, REVIEW_AT)
"""What a curator decided; see `review/decisions.py`."""

PUBLIC = (
    ROW_ID,
    ANONYMIZED_IMAGE,
    STATUS,
    PRIVACY_FLAG,
    PUBLIC_CAPTION,
    EDIT_INSTRUCTION,
    EDIT_CAPTION,
    PROVENANCE,
)
"""What may stand in `data/`, in this order; columns that the user keeps come after it."""

PRIVATE = (
    ROW_ID,
    SOURCE,
    STATUS,
    REASON,
    NOTE,
    SEED,
    PRIVACY_FLAG,
    PRIVACY_SCORE,
    PRIVACY_REVIEW,
    PRIVATE_CAPTION,
    PUBLIC_CAPTION,
    EDIT_INSTRUCTION,
    EDIT_CAPTION,
    PROVENANCE,
    *SCORE,
    *RACE,
)
"""What stands in `private/rows/`, one row for every row of the source."""

SAFE, ANONYMIZED, WITHHELD = "safe", "anonymized", "withheld"
STATUSES = (SAFE, ANONYMIZED, WITHHELD)

ERROR = "error"
"""Category of the review item by which `inspect` marks a row that it could not judge."""

JUDGED = "judged"
"""Category of the review item by which a model flags an image, without saying where."""

LEAK = "leak"
"""Category of the review item that says which public text said something private and was replaced."""

REASON_CODES = {
    "unreadable": "the file is no image that can be decoded whole",
    "truncated": "the file ends before its image does",
    "empty": "the file has no bytes",
    "missing": "there is no file or no value",
    "animated": "the file holds several frames",
    "too_large": "the image has more pixels than the limit",
    "unsupported": "the format or mode is not supported",
    "inspect_failed": "the inspection failed, so nothing is known of the image",
    "unparsable_answer": "the model's answer could not be understood, even when asked again",
    "no_answer": "the model failed or gave no answer",
    "nothing_to_edit": "flagged, but no region is known that could be hidden",
    "boxes": "the boxes given for the row cannot be used",
    "edit_failed": "the editor failed",
    "unproven": "flagged without a place, and no model could say whether what was flagged is gone",
    "residue": "something private was still found after the last attempt",
    "quality": "the edited image is below the quality gate",
    "encode_failed": "the result could not be written",
    "rejected": "a reviewer rejected the result",
    "worker_died": "the process died on this row",
    "error": "another failure",
}
"""Public reason codes of withheld rows. The words of one row's failure are private (`anonymization_note`)."""


def features(names: Iterable[str]) -> Features:
    """The typed `datasets.Features` of these columns, in this order."""
    from datasets import Features, Image, List, Value

    item = {
        "category": Value("string"),
        "item": Value("string"),
        "reason": Value("string"),
        "box": List(Value("float32")),
        "score": Value("float32"),
    }
    types: dict[str, Any] = {
        PRIVACY_FLAG: Value("bool"),
        PRIVACY_REVIEW: List(item),
        ANONYMIZED_IMAGE: Image(),
        SEED: Value("int64"),
        PRIVACY_SCORE: Value("float32"),
    }
    types |= {name: Value("int32") for name in (*FACES, RESIDUAL_FACES, RESIDUAL_TEXT)}
    types |= {name: List(Value("string")) for name in RACE}
    types |= {name: Value("float64") for name in SCORE if name not in types}
    return Features({name: types.get(name, Value("string")) for name in names})


def is_unverified(status: str | None, provenance: str | None) -> bool:
    """Whether a row may be published although its provenance does not say that it was verified (law 4)."""
    if status not in (SAFE, ANONYMIZED):
        return False
    try:
        return json.loads(provenance or "{}").get("verified") is not True
    except (ValueError, AttributeError):
        return True


def review_item(category: str, item: str, reason: str, box: Iterable[float] | None, score: float) -> dict[str, Any]:
    """One entry of `privacy_review`: box is (x0, y0, x1, y1) in pixels of the upright image, or none."""
    return {
        "category": category,
        "item": item,
        "reason": reason,
        "box": None if box is None else [float(v) for v in box],
        "score": float(score),
    }
