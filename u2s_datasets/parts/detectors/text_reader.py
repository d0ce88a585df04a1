"""The two networks behind `Text`, PP-OCRv6 small: one finds lines of text, the other reads them.

Everything around the networks that RapidOCR does well is RapidOCR's: boxes from the probability map, the
straightened crop, the decoding. What differs is how a photo meets the detection network: a pyramid of tiles,
never one picture shrunk to a limit, so that small words in a panorama keep their size and memory is bounded.
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
        from rapidocr.ch_ppocr_det.utils import DBPostProcess
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        _silence()
        self._find = OnnxModel(weights(DETECTOR), engine, threads)
        self._read = OnnxModel(weights(RECOGNISER), engine, threads)
        self._boxes = DBPostProcess(map_threshold, box_threshold, 3000, 1.6, "fast", True)
        self._decode = CTCLabelDecode(character=_characters(weights(RECOGNISER)))

    def regions(
        self, image: np.ndarray, scales: Sequence[float], middle: float = 127.5, gain: float = 1.0
    ) -> list[tuple[Quad, float]]:
        """Lines and words of text with the network's mean probability in [0, 1].

        Args:
            image: (H, W, 3) uint8 RGB.
            scales: factors by which to look at it; 1 is as it is.
            middle, gain: the grey level that becomes 0, and how much contrast is raised; see `contrast`.
        """
        found: list[tuple[Quad, float]] = []
        for scale in scales:
            for tile, origin, factor in tiles(image, scale):
                for quad, score in self._regions_of(tile, middle, gain):
                    found.append((quad / factor + origin, score))
        return found

    def _regions_of(self, tile: np.ndarray, middle: float, gain: float) -> list[tuple[Quad, float]]:
        pixels = (tile[..., ::-1].astype(np.float32) - middle) * (gain / 127.5)  # trained on BGR in [-1, 1]
        np.clip(pixels, -1, 1, out=pixels)
        probability = self._find(pixels.transpose(2, 0, 1)[None])[0]
        quads, scores = self._boxes(probability, tile.shape[:2])
        return [(np.asarray(q, np.float32), float(s)) for q, s in zip(quads, scores, strict=True)]

    def read(self, crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """What stands in each straightened crop, and the mean confidence of its characters in [0, 1].

        One crop per call: batches save nothing on a CPU, and a crop's reading must not depend on its neighbours.

        Args:
            crops: (H, W, 3) uint8 RGB, one line of text each.
        """
        return [self._decode(self._read(_line(crop))[0])[0][0] for crop in crops]


def tiles(image: np.ndarray, scale: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Overlapping tiles of `image` at `scale`: (tile, (x, y) of its origin, its exact (x, y) scale).

    Tiles reach over the photo's border by `MARGIN` and more; the last row and column of pixels is repeated there.
    """
    import cv2

    height, width = image.shape[:2]
    (tall, tops), (wide, lefts) = _cuts(height * scale), _cuts(width * scale)
    rows, cols = max(1, round(tall / scale)), max(1, round(wide / scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    for top in (round(v / scale) for v in tops):
        for left in (round(v / scale) for v in lefts):
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + rows, height), min(left + cols, width)
            border = (y0 - top, top + rows - y1, x0 - left, left + cols - x1)
            part = cv2.copyMakeBorder(image[y0:y1, x0:x1], *border, cv2.BORDER_REPLICATE)
            yield (
                cv2.resize(part, (wide, tall), interpolation=how),
                np.array([left, top], np.float32),
                np.array([wide / cols, tall / rows], np.float32),
            )


def _cuts(length: float) -> tuple[int, list[float]]:
    """Size of the tiles along a side of `length` pixels, and where each starts."""
    whole = length + 2 * MARGIN
    count = 1 if whole <= TILE else math.ceil((whole - OVERLAP) / (TILE - OVERLAP))
    size = min(STEP * math.ceil((whole + (count - 1) * OVERLAP) / count / STEP), TILE)
    size = max(size, STEP)
    if count == 1:
        return size, [(length - size) / 2]
    return size, [-MARGIN + i * (whole - size) / (count - 1) for i in range(count)]


def contrast(image: np.ndarray) -> tuple[float, float]:
    """(middle, gain) that stretch a dim or hazy photo to the full range; (127.5, 1.0) for any other photo.

    The network misses small words where all of a photo's grey levels lie within half of the range.
    """
    step = max(1, min(image.shape[:2]) // 256)
    low, high = np.percentile(image[::step, ::step], (1, 99))
    if high - low >= 128:
        return 127.5, 1.0
    return float(low + high) / 2, min(255 / max(float(high - low), 1.0), 3.0)


def straighten(image: np.ndarray, quad: Quad, grow: float = 0.0) -> np.ndarray:
    """The text in `quad` as an upright line, each side moved out by `grow` times its height."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    quad = grown(quad, grow)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - 2, 0)  # cv2 warps no picture beyond 32767 pixels
    high = np.ceil(quad.max(0)).astype(int) + 3
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    quad = (quad - low).astype(np.float32)
    sides = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)
    if part.size == 0 or max(sides[0], sides[2]) < 1 or max(sides[1], sides[3]) < 1:
        return np.zeros((1, 1, 3), np.uint8)
    return get_rotate_crop_image(part, quad)


def grown(quad: Quad, share: float) -> Quad:
    """`quad` with every side moved out by `share` of its shorter side."""
    along, down = quad[1] - quad[0], quad[3] - quad[0]
    wide, tall = max(float(np.hypot(*along)), 1e-3), max(float(np.hypot(*down)), 1e-3)
    step = share * min(wide, tall)
    x, y = along / wide * step, down / tall * step
    return (quad + np.stack([-x - y, x - y, x + y, y - x])).astype(np.float32)


def _line(crop: np.ndarray) -> np.ndarray:
    """(1, 3, 48, W) float32 as the recogniser takes it, W one of `WIDTHS`, zeros to the right."""
    import cv2

    wanted = max(math.ceil(48 * crop.shape[1] / crop.shape[0]), 1)
    width = next((w for w in WIDTHS if w >= wanted), WIDTHS[-1])
    line = cv2.resize(crop, (min(wanted, width), 48)).astype(np.float32) / 127.5 - 1
    out = np.zeros((1, 3, 48, width), np.float32)
    out[0, :, :, : line.shape[1]] = line[..., ::-1].transpose(2, 0, 1)
    return out


def weights(name: str) -> Path:
    """Path of a network inside the installed rapidocr wheel. Raises `SetupError` where it is missing."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise SetupError("text detection needs rapidocr: pip install 'rapidocr>=3.10'")
    path = Path(spec.origin).parent / "models" / name
    if not path.is_file():
        version = importlib.metadata.version("rapidocr")
        raise SetupError(f"rapidocr {version} has no {name}; install a version from 3.10 on that carries it")
    return path


def _characters(path: Path) -> list[str]:
    """The alphabet in the recogniser's own file; RapidOCR would download one where it is not found."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map["character"].splitlines()


def _silence() -> None:
    """RapidOCR logs to the console at level INFO as soon as it is imported."""
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
