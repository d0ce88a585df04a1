"""Whether a flagged row still shows a person of its original, asked once more before it leaves (law 9)."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets.errors import MissingExtra
from u2s_datasets.images import clip_box
from u2s_datasets.parts import Box
from u2s_datasets.parts.detectors.faces import FACE
from u2s_datasets.parts.metrics.dlib_faces import DlibFaces
from u2s_datasets.parts.metrics.identity import find_survivors, known_faces


class PeopleCheck:
    """The face network of the extra `identity` on the faces that a review names; without the extra it sees nothing.

    Every comparison is by the strict threshold. A row that was just on the right side of the loose one in its run
    must not stop a push because its image was encoded since; a copy is far above both.
    """

    @cached_property
    def network(self) -> DlibFaces | None:
        """None where the extra is not installed. Raises `SetupError` where it is and cannot work."""
        network = DlibFaces()
        try:
            network.check()
        except MissingExtra:
            return None
        return network

    def recognises(self, review: Sequence[dict[str, Any]], before: Image.Image, after: Image.Image) -> bool:
        """Whether a person of the original is recognised in the image that is to leave.

        Args:
            review: of the original, with boxes in its pixels.
            before, after: upright RGB images; they may differ in size.
        """
        boxes = [
            box
            for item in review
            if item["category"] == FACE.name and item["box"] is not None
            if (box := clip_box(tuple(item["box"]), before.size)) is not None
        ]
        if not boxes or self.network is None:
            return False
        image = np.asarray(after)
        known = known_faces(self.network, np.asarray(before), boxes)
        found = self._find(image, boxes if before.size == after.size else None)
        return bool(find_survivors(self.network, known, image, found, same=self.network.same_elsewhere).same)

    def _find(self, image: np.ndarray, boxes: Sequence[Box] | None) -> list[Box]:
        """Faces around these boxes, or anywhere."""
        assert self.network is not None
        detector = self.network.detector
        (found,) = detector.detect([image]) if boxes is None else detector.residue([image], [boxes])
        return [d.box for d in found]
