"""What a user may change in a profile, declared once: `u2s.profile`, `u2s.run` and the command's help are made of it.

It loads nothing, so that `u2s --help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from u2s_datasets.parts import Editor
    from u2s_datasets.parts.metrics.encoders import MetricNetwork
    from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
    from u2s_datasets.privacy.criteria import CriteriaLike

Backends = str | Mapping[str, str] | None
"""What runs the language models: a name for all roles, or one per role."""


@dataclass(frozen=True)
class ProfileChanges:
    """What a user may change in a profile; None leaves the profile's own.

    Args:
        detectors: what to look for, such as faces and text; default: the profile's. Models flag an image too;
            detectors give boxes, and look again at what was edited.
        detector_options: arguments of detectors by name, such as faces.flag_threshold=0.3 or text.grow=0.3; see
            docs/profiles.md.
        editor: name of an editor, or in Python one as it is; default: the profile's.
        editor_options: arguments of the editor, such as num_inference_steps=28 or lora=FILE; see docs/editors.md.
        identity: face network that tells whether a rewritten face is still the same person, such as dlib_faces; none
            redacts faces instead of rewriting them; default: the profile's.
        models: other weights for 'inspect', 'instruct' or 'edit': a folder, a Hub id, ID@COMMIT, or a server's name
            for them.
        backend: what runs the language models: transformers, vllm, or a server's address; one for all roles, or one by
            role; default: the profile's.
        small: use the profile's smaller models.
        dtype: float32, bfloat16 or float16; default: each part's own.
        device: such as cuda:1; default: a GPU per worker, else the CPU.
        criteria: what the language models count as private: names such as people and vispr:health, or a file with one
            to a line; default: the profile's.
        threshold: flag from this score of the model on, in (0, 1]; default: the profile's.
        method: choose (weighs TRUE and FALSE) or generate (writes it); default: the profile's.
        groups: demographic groups to draw from for each edited image; or paper.
        scores: networks that measure every row: clip, lpips, faces, each with the weights to load if they are not the
            usual ones, as in faces=insightface; default: the profile's.
        above: withhold an edited image unless this score exceeds this value, such as clip_ratio=0.7; default: the
            profile's. One that could not be measured withholds, too.
        at_most: withhold an edited image if this score exceeds this value, such as faces_same=0; default: the
            profile's.
    """

    detectors: Sequence[str] | None = None
    detector_options: Mapping[str, Mapping[str, Any]] | None = None
    editor: str | Editor | None = None
    editor_options: Mapping[str, Any] | None = None
    identity: str | FaceEncoder | None = None
    models: Mapping[str, str] | None = None
    backend: Backends = None
    small: bool = False
    dtype: str | None = None
    device: str | None = None
    criteria: CriteriaLike | None = None
    threshold: float | None = None
    method: str | None = None
    groups: tuple[str, ...] | str | None = None
    scores: Mapping[str, str | MetricNetwork] | None = None
    above: Mapping[str, float] | None = None
    at_most: Mapping[str, float] | None = None

    def given(self, *names: str) -> dict[str, Any]:
        """Those of these options that are not None."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
