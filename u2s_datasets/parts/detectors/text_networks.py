"""PP-OCRv6's two networks: one that finds lines of text, one that reads them; tiles of a photo, and its contrast."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.engine import OnnxModel
from u2s_datasets.parts.detectors.text_lines import Region

DETECTOR, RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"

# Sizes in pixels. A tile is what the detection network sees at once: it bounds memory, to about 1 GB above the photo.
TILE = 1536
OVERLAP = 128  # of neighbouring tiles: a word cut by one seam is whole in the next tile
MARGIN = 16  # border added around the photo, in network pixels: the network misses words that touch its own edge
# Sides of tiles are multiples of STEP, and lines are read at few widths (a longer one is squeezed into the last), since
# OpenVINO compiles every new shape, which takes 0.1 to 0.6 s.
STEP = 160
WIDTHS = (96, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560)


class TextNetworks:
    """Both networks, loaded.

    Args:
        engine, threads: as for `OnnxModel`.
        map_threshold: probability, in (0, 1), from which a pixel belongs to text.
        box_threshold: mean probability, in (0, 1), from which a region counts.
    """

    def __init__(self, engine: str, threads: int, map_threshold: float, box_threshold: float) -> None:
        import onnxruntime
        from rapidocr.ch_ppocr_det.utils import DBPostProcess
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it logs to the console as soon as it is imported
        recogniser = model_path(RECOGNISER)
        self._detect = OnnxModel(model_path(DETECTOR), engine, threads)
        self._recognise = OnnxModel(recogniser, engine, threads)
        self._boxes = DBPostProcess(map_threshold, box_threshold, 3000, 1.6, "fast", True)
        # The alphabet is in the recogniser's own file; without it, RapidOCR would download one.
        session: Any = onnxruntime.InferenceSession(str(recogniser), providers=["CPUExecutionProvider"])
        alphabet = session.get_modelmeta().custom_metadata_map["character"]
        self._decode = CTCLabelDecode(character=alphabet.splitlines())

    def regions(
        self, image: np.ndarray, scales: Sequence[float], middle: float = 127.5, gain: float = 1.0
    ) -> list[Region]:
        """Lines and words of text.

        Args:
            image: (H, W, 3) uint8 RGB.
            scales: factors by which to look at it; 1 is as it is.
            middle, gain: the grey level that becomes 0, and the factor that raises contrast; see `contrast`.
        """
        found: list[Region] = []
        for scale in scales:
            for tile, origin, factor in tiles(image, scale):
                pixels = (tile[..., ::-1].astype(np.float32) - middle) * (gain / 127.5)  # trained on BGR in [-1, 1]
                probability = self._detect(pixels.clip(-1, 1).transpose(2, 0, 1)[None])[0]
                quads, scores = self._boxes(probability, tile.shape[:2])
                for quad, score in zip(quads, scores, strict=True):
                    found.append(Region(np.asarray(quad, np.float32) / factor + origin, float(score)))
        return found

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        """The text in a straightened crop, and the mean confidence of its characters in [0, 1].

        Crops are read one by one: batches save nothing on a CPU, and no reading may depend on its neighbours.

        Args:
            crop: (H, W, 3) uint8 RGB, one line of text.
        """
        wanted = max(math.ceil(48 * crop.shape[1] / crop.shape[0]), 1)
        width = next((w for w in WIDTHS if w >= wanted), WIDTHS[-1])
        line = cv2.resize(crop, (min(wanted, width), 48)).astype(np.float32) / 127.5 - 1
        padded = np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)))[..., ::-1]  # trained on BGR
        return self._decode(self._recognise(padded.transpose(2, 0, 1)[None])[0])[0][0]


def tiles(image: np.ndarray, scale: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Overlapping tiles of `image` at `scale`: (tile, (x, y) of its origin, its exact (x, y) scale).

    Tiles reach over the photo's border by `MARGIN` or more; there the last row and column of pixels is repeated.
    """
    height, width = image.shape[:2]
    (tall, tops), (wide, lefts) = _cuts(height * scale), _cuts(width * scale)
    rows, cols = max(1, round(tall / scale)), max(1, round(wide / scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    for top in (round(v / scale) for v in tops):
        for left in (round(v / scale) for v in lefts):
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + rows, height), min(left + cols, width)
            border = (y0 - top, top + rows - y1, x0 - left, left + cols - x1)
            part = cv2.copyMakeBorder(image[y0:y1, x0:x1], *border, cv2.BORDER_REPLICATE)
            yield (
                cv2.resize(part, (wide, tall), interpolation=interpolation),
                np.array([left, top], np.float32),
                np.array([wide / cols, tall / rows], np.float32),
            )


def _cuts(length: float) -> tuple[int, list[float]]:
    """Size of the tiles along a side of `length` pixels, and where each starts."""
    total = length + 2 * MARGIN
    count = 1 if total <= TILE else math.ceil((total - OVERLAP) / (TILE - OVERLAP))
    size = STEP * math.ceil((total + (count - 1) * OVERLAP) / count / STEP)
    size = max(min(size, TILE), STEP)
    if count == 1:
        return size, [(length - size) / 2]
    return size, [-MARGIN + i * (total - size) / (count - 1) for i in range(count)]


def contrast(image: np.ndarray) -> tuple[float, float]:
    """(middle, gain) that stretch a dim or hazy photo to the full range; (127.5, 1.0) for any other photo.

    The network misses small words in a photo whose grey levels all lie within half of the range.
    """
    step = max(1, min(image.shape[:2]) // 256)
    low, high = np.percentile(image[::step, ::step], (1, 99))
    if high - low >= 128:
        return 127.5, 1.0
    return float(low + high) / 2, min(255 / max(float(high - low), 1.0), 3.0)


def model_path(name: str) -> Path:
    """Path of a network inside the installed rapidocr wheel. Raises `SetupError` if it is missing."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise SetupError("rapidocr is not installed, and text detection needs it; run: pip install 'rapidocr>=3.10'")
    path = Path(spec.origin).parent / "models" / name
    if not path.is_file():
        version = importlib.metadata.version("rapidocr")
        raise SetupError(f"rapidocr {version} has no {name}; run: pip install 'rapidocr>=3.10'")
    return path
