"""Tiny networks of the metrics' real kinds, built here: an open_clip model, VGG-16's shapes, ONNX face networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def clip(folder: Path) -> Path:
    """A CLIP of random weights, in the form in which open_clip saves one for the Hub."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    made = open_clip.CLIP(**CLIP)
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / "open_clip_model.safetensors")
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": preprocess}))
    return folder


def vgg(path: Path) -> Path:
    """VGG-16's trunk with random weights, under torchvision's names."""
    import torch
    from torchvision.models import vgg16

    torch.manual_seed(0)
    state = vgg16(weights=None).state_dict()
    torch.save({k: v for k, v in state.items() if k.startswith("features.")}, path)
    return path


def recognition(path: Path, side: int = 112, d: int = 16) -> Path:
    """A face recognition network in its smallest form: a mean over 14 x 14 patches and one matrix."""
    from onnx import TensorProto, helper, numpy_helper, save

    cells = (side // 14) ** 2 * 3
    random = np.random.default_rng(0).normal(size=(cells, d)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["pooled"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    return _saved(
        save,
        helper,
        path,
        nodes,
        [numpy_helper.from_array(random, "matrix")],
        [None, 3, side, side],
        TensorProto,
        [("embedding", [None, d])],
    )


def detection(path: Path, box: tuple[int, int, int, int] = (16, 16, 80, 80)) -> Path:
    """A detector in SCRFD's form, nine outputs for three strides, that finds one face at one place in every image."""
    from onnx import TensorProto, helper, numpy_helper, save

    size, nodes, constants, outputs = 640, [], [], []
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            side = size // stride
            values = np.zeros((side * side * 2, width), np.float32)
            at = 2 * (int(y // stride) * side + int(x // stride))
            if stride == 8:
                cx, cy = int(x // 8) * 8, int(y // 8) * 8
                marks = [(36, 40), (60, 40), (48, 52), (38, 64), (58, 64)]
                values[at] = {
                    "score": [0.9],
                    "bbox": np.array([cx - box[0], cy - box[1], box[2] - cx, box[3] - cy]) / 8,
                    "kps": np.array([v for mx, my in marks for v in (mx - cx, my - cy)]) / 8,
                }[kind]
            name = f"{kind}{stride}"
            constants.append(numpy_helper.from_array(values, f"{name}_values"))
            nodes.append(helper.make_node("Add", [f"{name}_values", "nothing"], [name]))
            outputs.append((name, list(values.shape)))
    nodes = [
        helper.make_node("ReduceMean", ["input.1"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *nodes,
    ]
    constants.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    return _saved(save, helper, path, nodes, constants, [1, 3, None, None], TensorProto, outputs)


def _saved(
    save: Any, helper: Any, path: Path, nodes: Any, constants: Any, shape: Any, types: Any, outputs: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = [helper.make_tensor_value_info("input.1", types.FLOAT, shape)]
    made = [helper.make_tensor_value_info(name, types.FLOAT, size) for name, size in outputs]
    graph = helper.make_graph(nodes, "tiny", inputs, made, constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
