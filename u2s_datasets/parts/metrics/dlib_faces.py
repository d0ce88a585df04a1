"""The face network whose weights come in a wheel under a free licence: dlib's, on faces that our detector finds."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError
from u2s_datasets.parts import Box, Shipped, checkpoints
from u2s_datasets.parts.checks import check_instance, check_int, check_ranges
from u2s_datasets.parts.detectors.centerface import face_crop
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.metrics.dlib_resnet import SIDE, as_input, onnx_model
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.privacy import Face

_PACKAGE = "face_recognition_models"
_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

# Where dlib's mean face has its eyes, nose and mouth, in sides of the face; its chip shows a quarter more all around.
_MEAN_FACE = np.array([[0.2255, 0.2160], [0.7548, 0.2160], [0.4901, 0.5156], [0.2541, 0.7802], [0.7261, 0.7802]])
_PADDING = 0.25
_LANDMARKS = (_MEAN_FACE + _PADDING) / (1 + 2 * _PADDING) * SIDE
_CROP_SIZE = 128  # pixels to a side of the face in the crop that is turned upright; in a chip there are about 115


@dataclass(frozen=True)
class DlibFaces(FaceEncoder):
    """dlib's face recognition network, as the wheel `face-recognition-models` carries it (CC0).

    Of that wheel one file is read, and none of its code: its import needs `pkg_resources`, which setuptools no longer
    has, and its model of 68 landmarks is not for commercial use. The landmarks are those of our own detector.

    Embeddings are dlib's own, 128 numbers of a length of about 1.4. dlib compares them by Euclidean distance. By
    cosine they tell people apart as well, so the thresholds are cosines as for every network, chosen on real photos
    (docs/metrics.md). All faces have much in common in them: most strangers are at 0.87 or so, which would be one
    person by another network.

    Args:
        detector: finds the faces and their landmarks.
        same: cosine at and above which the face at a face's own place is the same person.
        same_elsewhere: the same for a face anywhere else.
        smallest: shorter side in pixels from which a face is told from others.
        engine: "onnxruntime" or "openvino", see `detectors/engine.py`.
        threads: threads that one call may use.
    """

    detector: Faces = Faces()
    same: float = 0.92
    same_elsewhere: float = 0.955
    smallest: int = 16
    engine: str = "onnxruntime"
    threads: int = 1

    shipped = Shipped("dlib_face_recognition_resnet_model_v1", "cc0-1.0", _PACKAGE)
    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = (_PACKAGE, "numpy", "onnxruntime", "openvino")
    weights: ClassVar[str] = "dlib's face recognition network in the wheel face-recognition-models (CC0-1.0)"

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights` if the wheel lacks the file, or `SetupError` for a wrong value."""
        try:
            checkpoints.need("identity", _PACKAGE)
        except MissingExtra as error:
            cure = "or say identity='none' (--identity none), with which faces are redacted instead of rewritten"
            raise MissingExtra(f"{error}, {cure}") from error
        check_engine(self.engine)
        check_int("threads", self.threads, 1, 1024)
        check_int("smallest", self.smallest)
        check_ranges(self, same=(0.5, 1), same_elsewhere=(0.5, 1))
        if self.same_elsewhere < self.same:
            raise SetupError(f"same_elsewhere={self.same_elsewhere!r} is below same={self.same!r}; expected it or more")
        check_instance("detector", self.detector, Faces, "u2s.Faces()")
        self.detector.check()
        if not self._file().is_file():
            raise MissingWeights(f"the installed {_PACKAGE} has no {_FILE}; run: pip install 'u2s_datasets[identity]'")

    def load(self) -> OnnxModel:
        """The network. Raises `SetupError` as `check` does, and for a file that is another one."""
        self.check()
        data = self._file().read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != _SHA256:
            raise SetupError(f"{_FILE} has the SHA-256 {found}; expected {_SHA256}: install {_PACKAGE} 0.3.0 again")
        return OnnxModel(onnx_model(data), self.engine, self.threads)

    def embed(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces at or above the detector's `flag_threshold` of which landmarks are read, with their embeddings."""
        embedded = []
        for image, found in zip(images, self.detector.detect(images), strict=True):
            boxes = [d.box for d in found if d.score >= self.detector.flag_threshold]
            embedded.append([face for face in self.embed_at(image, boxes) if face is not None])
        return embedded

    def embed_at(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Face | None]:
        """The face at each of these boxes; None where no landmarks are read."""
        return [self._embed_one(image, box) for box in boxes]

    def _embed_one(self, image: np.ndarray, box: Box) -> Face | None:
        landmarks = self.detector.landmarks(image, box)
        if landmarks is None:
            return None
        return Face(box, self.loaded(as_input(upright_chip(image, box, landmarks)))[0][0])

    def _file(self) -> Path:
        spec = importlib.util.find_spec(_PACKAGE)  # finds it without running it
        folders = (spec.submodule_search_locations if spec else None) or [""]
        return Path(folders[0]) / "models" / _FILE


def upright_chip(image: np.ndarray, box: Box, landmarks: np.ndarray) -> np.ndarray:
    """A face turned upright and scaled to dlib's mean face, (150, 150, 3), black beyond the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: where the face is; it decides how much a large face is averaged.
        landmarks: (5, 2) as `Faces.landmarks` gives them.
    """
    crop, inside = face_crop(image, np.array(box), _CROP_SIZE, 3)
    points = inside[:2] + (landmarks - np.array(box)[:2]) * (inside[2] - inside[0]) / (box[2] - box[0])
    return cv2.warpAffine(crop, similarity(points, _LANDMARKS), (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3): the shift, turn and scale that bring (N, 2) points nearest to others, by least squares (Umeyama 1991).

    A reflection is never among them.
    """
    a, b = (points - points.mean(axis=0) for points in (source, target))
    along = (a * b).sum()
    across = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    turn = np.array([[along, -across], [across, along]]) / max(float((a**2).sum()), 1e-9)
    return np.column_stack([turn, target.mean(axis=0) - turn @ source.mean(axis=0)])
