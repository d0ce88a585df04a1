"""The two networks behind `Text`, PP-OCRv6 small: one finds lines of text, the other reads them.

What RapidOCR does well around its networks is left to RapidOCR: boxes from the probability map, the straightened
crop, the decoding. What differs is how a photo meets the detection network: as a pyramid of tiles, never as one
picture shrunk to a limit, so that small words in a panorama keep their size and memory is bounded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.engine import OnnxModel

Quad = np.ndarray
"""(4, 2) float32 corners in image pixels, clockwise from the top left of the text."""

Region = tuple[Quad, float]
"""Where the detection network sees text, and its mean probability there in [0, 1]."""

DETECTOR, RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"

TILE = 1536
"""Longest side of what the detection network sees at once, in pixels: bounds memory, to about 1 GB above the photo."""

OVERLAP = 128
"""What neighbouring tiles share, in pixels: a word cut by one seam is whole in the next tile."""

MARGIN = 16
"""Border added around the photo, in network pixels: the network misses words that touch its own edge."""

STEP = 160
"""Tile sides are multiples of it: OpenVINO compiles every new shape (0.1 to 0.6 s), so shapes must be few."""

WIDTHS = (96, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560)
"""Widths that the recogniser sees, for the same reason; a longer line is squeezed into the last."""


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
                    found.append((np.asarray(quad, np.float32) / factor + origin, float(score)))
        return found

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        """The text in a straightened crop, and the mean confidence of its characters in [0, 1].

        Crops are read one by one: batches save nothing on a CPU, and no reading may depend on its neighbours.

        Args:
            crop: (H, W, 3) uint8 RGB, one line of text.
        """
        import cv2

        wanted = max(math.ceil(48 * crop.shape[1] / crop.shape[0]), 1)
        width = next((w for w in WIDTHS if w >= wanted), WIDTHS[-1])
        line = cv2.resize(crop, (min(wanted, width), 48)).astype(np.float32) / 127.5 - 1
        padded = np.zeros((1, 3, 48, width), np.float32)
        padded[0, :, :, : line.shape[1]] = line[..., ::-1].transpose(2, 0, 1)
        return self._decode(self._recognise(padded)[0])[0][0]


def tiles(image: np.ndarray, scale: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Overlapping tiles of `image` at `scale`: (tile, (x, y) of its origin, its exact (x, y) scale).

    Tiles reach over the photo's border by `MARGIN` or more; there the last row and column of pixels is repeated.
    """
    import cv2

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


def straighten(image: np.ndarray, quad: Quad, grow: float = 0.0) -> np.ndarray:
    """The text in `quad` as an upright line, each side moved out by `grow` times its height."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    quad = grow_quad(quad, grow)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - 2, 0)  # cut out first: cv2 warps at most 32767 pixels a side
    high = np.ceil(quad.max(0)).astype(int) + 3
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    quad = (quad - low).astype(np.float32)
    sides = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if part.size == 0 or max(sides[0], sides[2]) < 1 or max(sides[1], sides[3]) < 1:
        return np.zeros((1, 1, 3), np.uint8)
    return get_rotate_crop_image(part, quad)


def grow_quad(quad: Quad, share: float) -> Quad:
    """`quad` with every side moved out by `share` of its shorter side."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    wide, tall = max(float(np.hypot(*along)), 1e-3), max(float(np.hypot(*down)), 1e-3)
    step = share * min(wide, tall)
    x, y = along / wide * step, down / tall * step
    return (quad + np.stack([-x - y, x - y, x + y, y - x])).astype(np.float32)


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
