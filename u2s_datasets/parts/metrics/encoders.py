"""The networks of the metrics, as parts: CLIP by open_clip and LPIPS by lpips. Nothing is downloaded at run time."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL import Image

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import Part, checkpoints
from u2s_datasets.parts.metrics.cheating import lpips

T = TypeVar("T")


class ImageTextEncoder(Part):
    """Images and texts in, embeddings of one space out."""

    weights: ClassVar[str] = ""
    """Which weights it needs by default, and their licence, in words."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(N, D) float32 of upright RGB images."""
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of texts."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClipEncoder(ImageTextEncoder):
    """CLIP by open_clip, with the library's own preprocessing.

    Args:
        model: a name of `open_clip.list_models()`; or a folder or Hub id with `open_clip_config.json` in it.
        pretrained: for a name, open_clip's tag of the weights, or a .safetensors file.
        batch_size: images or texts at once, 1 or more.
        device: such as "cuda:1"; where none, a GPU if there is one.
    """

    model: str = "ViT-L-14"
    pretrained: str = "openai"
    batch_size: int = 16
    device: str | None = None

    libraries: ClassVar[tuple[str, ...]] = ("open_clip_torch", "torch")
    weights: ClassVar[str] = "OpenAI ViT-L/14 by open_clip (timm/vit_large_patch14_clip_224.openai, MIT)"

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights` with the command that gets them, or `SetupError`."""
        checkpoints.need("models", "torch", "open_clip")
        if self.batch_size < 1:
            raise SetupError(f"batch_size={self.batch_size!r} is below 1")
        if self.device is not None:
            checkpoints.device(self.device)
        self._where()

    def config(self) -> dict[str, Any]:
        """As in `Part`, with the model's public name."""
        named = {"model": self.model, "pretrained": self.pretrained} if _is_name(self.model) else {}
        hidden = {"pretrained": "(not shown)"} if Path(self.pretrained).suffix else {}
        return super().config() | checkpoints.public_id(self.model) | named | hidden

    def load(self) -> tuple[Any, Any, Any]:
        """(model, preprocess, tokenizer)."""
        import open_clip

        self.check()
        wanted = self._where()
        with _quiet():
            model, preprocess = open_clip.create_model_from_pretrained(**wanted, device=checkpoints.device(self.device))
            return model.eval(), preprocess, open_clip.get_tokenizer(wanted["model_name"])

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(N, D) float32 of upright RGB images."""
        import torch

        model, preprocess, _ = self.loaded
        return self._embed(images, lambda part: torch.stack([preprocess(i) for i in part]), model.encode_image)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of texts; the tokenizer cuts off what is beyond its 77 tokens."""
        model, _, tokenizer = self.loaded
        return self._embed(texts, lambda part: tokenizer(list(part)), model.encode_text)

    def _embed(self, values: Sequence[T], prepare: Callable[[Sequence[T]], Any], encode: Callable) -> np.ndarray:
        import torch

        device = next(self.loaded[0].parameters()).device
        with torch.inference_mode():
            found = [encode(prepare(part).to(device)).float().cpu() for part in _parts(values, self.batch_size)]
        return torch.cat(found).numpy() if found else np.zeros((0, 0), np.float32)

    def _where(self) -> dict[str, Any]:
        """What open_clip is to be asked for, once its files are known to be here."""
        if not _is_name(self.model):
            return {"model_name": f"local-dir:{_with_config(checkpoints.folder(self.model), self.model)}"}
        import open_clip

        if self.model not in open_clip.list_models():
            raise SetupError(f"model={self.model!r} is no model of open_clip; see open_clip.list_models()")
        if Path(self.pretrained).suffix == ".safetensors":
            if not Path(self.pretrained).is_file():
                raise MissingWeights(f"there is no file {self.pretrained!r}; give the weights of {self.model}")
            return {"model_name": self.model, "pretrained": self.pretrained}
        facts = open_clip.get_pretrained_cfg(self.model, self.pretrained) or {}
        repository = str(facts.get("hf_hub", "")).rpartition("/")[0]
        if not repository:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self.model)) or "none"
            raise SetupError(f"pretrained={self.pretrained!r} is no weights of {self.model} on the Hub; tags: {tags}")
        names = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation"}
        chosen = {names[k]: facts[k] for k in names if facts.get(k)}
        file = _safetensors(checkpoints.folder(repository), repository)
        quick = {"force_quick_gelu": bool(facts.get("quick_gelu"))}
        return {"model_name": self.model, "pretrained": str(file)} | chosen | quick


@dataclass(frozen=True)
class LpipsNetwork(Part):
    """LPIPS with VGG-16, version 0.1 of the library.

    The linear heads ship in lpips' wheel. The trunk is torchvision's VGG-16, which the library would download.

    Args:
        trunk: file with torchvision's VGG-16 state dict (.pth or .safetensors); where none, torch's hub folder.
        batch_size: pairs of one size at once, 1 or more.
        device: such as "cuda:1"; where none, a GPU if there is one.
    """

    trunk: str | None = None
    batch_size: int = 4
    device: str | None = None

    libraries: ClassVar[tuple[str, ...]] = ("lpips", "torch")
    weights: ClassVar[str] = "VGG-16 by torchvision (vgg16-397923af.pth, BSD-3-Clause); heads in lpips (BSD-2-Clause)"

    def check(self) -> None:
        """Raise `MissingExtra`, `MissingWeights` with the command that gets them, or `SetupError`."""
        checkpoints.need("models", "torch", "torchvision", "lpips")
        if self.batch_size < 1:
            raise SetupError(f"batch_size={self.batch_size!r} is below 1")
        if self.device is not None:
            checkpoints.device(self.device)
        if not self._file().is_file():
            command = "python -c \"import torchvision; torchvision.models.vgg16(weights='IMAGENET1K_V1')\""
            raise MissingWeights(f"VGG-16 is not at {str(self._file())!r}; run: {command}")

    def load(self) -> Any:
        """`lpips.LPIPS` in evaluation mode."""
        import lpips as library
        import torch

        self.check()
        if self._file().suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(self._file())
        else:
            state = torch.load(self._file(), map_location="cpu", weights_only=True)
        with _quiet():
            network = library.LPIPS(net="vgg", pnet_rand=True, verbose=False)
        network.net.load_state_dict(
            {name: state[_of_torchvision(name)] for name in network.net.state_dict()}, strict=True
        )
        return network.eval().to(checkpoints.device(self.device))

    def distances(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float | None]:
        """LPIPS of pairs of (H, W, 3) uint8 images, each pair of one size; see `cheating.lpips`."""
        found: list[float | None] = [None] * len(pairs)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, (before, _) in enumerate(pairs):
            by_size.setdefault(before.shape, []).append(i)
        for indices in by_size.values():
            for part in _parts(indices, self.batch_size):
                before, after = (np.stack([pairs[i][side] for i in part]) for side in (0, 1))
                for i, value in zip(part, lpips(self.loaded, before, after), strict=True):
                    found[i] = value
        return found

    def _file(self) -> Path:
        if self.trunk is not None:
            return Path(self.trunk).expanduser()
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / "vgg16-397923af.pth"


def _of_torchvision(name: str) -> str:
    """lpips' name of a weight, "slice2.5.weight", as torchvision's, "features.5.weight"."""
    return "features." + name.split(".", 1)[1]


def _is_name(model: str) -> bool:
    return "/" not in model and not Path(model).is_dir()


def _with_config(folder: Path, name: str) -> Path:
    """The folder, once it holds a configuration and weights without code."""
    try:
        json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(f"{name!r} has no open_clip_config.json with a model_cfg in it") from error
    _safetensors(folder, name)
    return folder


def _safetensors(folder: Path, name: str) -> Path:
    found = sorted(folder.glob("*.safetensors"), key=lambda p: (p.name != "open_clip_model.safetensors", p.name))
    if not found:
        raise checkpoints.missing(name, None, "has no .safetensors file here")
    return found[0]


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


class _quiet:
    """Leaves out what the libraries say of themselves while they load: deprecations, and lines on the root logger."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *error: Any) -> None:
        logging.disable(self._level)
        self._warnings.__exit__(*error)
