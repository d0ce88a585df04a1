"""dlib's face recognition network (Davis King, "dlib-models", CC0) from its own file, as an ONNX model.

dlib is a compiled library of its own, and the engines that the detectors use run the same numbers about twenty times
as fast. So only its file is read here, and dlib itself is what the tests compare with.

The architecture is that of dlib's dnn_face_recognition_ex.cpp: a convolution, 14 residual blocks and a mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

SIDE = 150  # of the chip, in pixels
_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # what dlib's input layer takes off R, G and B
_SCALE = np.float32(256)
_HALVES = (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1)  # which residual blocks halve the picture
_KERNELS = (7, *[3] * 28)  # sides of the 29 convolutions
_FLOAT, _INT64 = 1, 7  # ONNX's numbers of types


def as_input(chip: np.ndarray) -> np.ndarray:
    """(1, 3, 150, 150) float32 of a (150, 150, 3) uint8 RGB chip."""
    return ((chip.astype(np.float32) - _MEAN) / _SCALE).transpose(2, 0, 1)[None]


def onnx_model(data: bytes) -> bytes:
    """The network as an ONNX file: `as_input` to (1, 128) float32.

    Args:
        data: the file dlib_face_recognition_resnet_model_v1.dat.

    Raises:
        ValueError: it holds another network.
    """
    graph = _Graph()
    layers = _convolutions(data)
    x = graph.add("Relu", _convolve(graph, "chip", next(layers), 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    channels, side = 32, 35
    for halves in _HALVES:
        first, second = next(layers), next(layers)
        y = graph.add("Relu", _convolve(graph, x, first, 2 if halves else 1))
        y = _convolve(graph, y, second, 1)
        if halves:
            x = graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            deeper, pooled, convolved = len(second[1]), side // 2, (side - 3) // 2 + 1
            # dlib adds tensors of two sizes as if the smaller one were filled with zeros.
            x = graph.pad(x, deeper - channels, 0)
            y = graph.pad(y, 0, pooled - convolved)
            channels, side = deeper, pooled
        x = graph.add("Relu", graph.add("Add", x, y))
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    return graph.model(graph.add("MatMul", x, graph.constant(_last_matrix(data))))


Convolution = tuple[np.ndarray, np.ndarray]
"""(F, C, k, k) weights and (F,) biases."""


def _convolve(graph: _Graph, x: str, layer: Convolution, stride: int) -> str:
    """dlib fills the border of a convolution only where its stride is 1."""
    weights, biases = layer
    side = weights.shape[2]
    border = [side // 2 if stride == 1 else 0] * 4
    names = (x, graph.constant(weights), graph.constant(biases))
    return graph.add("Conv", *names, kernel_shape=[side, side], strides=[stride, stride], pads=border)


def _convolutions(data: bytes) -> Iterator[Convolution]:
    """Each convolution with the scale and the offset of the affine layer behind it multiplied in, in order."""
    plain = [_tensor(data, found.end()) for found in re.finditer(rb"\x05con_4", data)]
    affine = [_tensor(data, found.end()) for found in re.finditer(rb"\x07affine_", data)]
    if not len(plain) == len(affine) == len(_KERNELS):
        raise ValueError(f"{len(plain)} convolutions and {len(affine)} affine layers; expected {len(_KERNELS)} each")
    for values, (gains, offsets), side in zip(plain, (np.split(a, 2) for a in affine), _KERNELS, strict=True):
        filters = len(gains)
        weights = values[:-filters].reshape(filters, -1, side, side)
        yield weights * gains[:, None, None, None], values[-filters:] * gains + offsets


def _last_matrix(data: bytes) -> np.ndarray:
    """(256, 128) of the last layer, which is linear."""
    place = data.index(b"fc_2") + 4
    for _ in range(2):  # the numbers of outputs and inputs stand before it
        _, place = _integer(data, place)
    return _tensor(data, place).reshape(256, 128)


def _tensor(data: bytes, place: int) -> np.ndarray:
    """The flat float32 values of a tensor as dlib stores it: version 2, four sides, the values."""
    sides = []
    _, place = _integer(data, place)
    for _ in range(4):
        side, place = _integer(data, place)
        sides.append(side)
    return np.frombuffer(data, "<f4", int(np.prod(sides)), place)


def _integer(data: bytes, place: int) -> tuple[int, int]:
    """A number as dlib stores it, its length in bytes before it; and where the next thing begins."""
    end = place + 1 + (data[place] & 0x7F)
    return int.from_bytes(data[place + 1 : end], "little"), end


class _Graph:
    """An ONNX graph in the making. Its file is written by hand: the package `onnx` is needed for nothing else."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def add(self, operator: str, *inputs: str, **attributes: Sequence[int]) -> str:
        """Add a node; returns the name of its output."""
        name = f"n{len(self._nodes)}"
        given = [
            _text(1, key) + b"".join(_number(8, value) for value in values) + _number(20, 7)
            for key, values in attributes.items()
        ]
        node = b"".join(_text(1, x) for x in inputs) + _text(2, name) + _text(4, operator)
        self._nodes.append(node + b"".join(_bytes(5, one) for one in given))
        return name

    def constant(self, values: np.ndarray) -> str:
        """Add weights or integers; returns their name."""
        name, kind = f"c{len(self._constants)}", _INT64 if values.dtype == np.int64 else _FLOAT
        raw = values.astype("<i8" if kind == _INT64 else "<f4").tobytes()
        shape = b"".join(_number(1, side) for side in values.shape)
        self._constants.append(shape + _number(2, kind) + _text(8, name) + _bytes(9, raw))
        return name

    def pad(self, x: str, channels: int, side: int) -> str:
        """Zeros behind the last channels, and at the right and below."""
        return self.add("Pad", x, self.constant(np.array([0, 0, 0, 0, 0, channels, side, side], np.int64)))

    def model(self, output: str) -> bytes:
        """The file."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "dlib")
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        graph += _bytes(11, _value("chip", (1, 3, SIDE, SIDE))) + _bytes(12, _value(output, (1, 128)))
        return _number(1, 8) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, 13))


def _value(name: str, shape: Sequence[int]) -> bytes:
    """ONNX's ValueInfoProto of a float tensor."""
    sides = b"".join(_bytes(1, _number(1, side)) for side in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, sides)))


def _varint(value: int) -> bytes:
    """A number in protobuf's groups of seven bits."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
