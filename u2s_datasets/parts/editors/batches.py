"""Orders of mixed sizes through a model that takes one size at a time.

Each image is shrunk to `max_pixels`, padded to the model's multiple and batched with others of its size. A batch that
does not fit into memory is halved. What comes back is refused if it is black or not finite, else cropped and resized
to the original's size; for `region="boxes"` only the boxes are pasted into the original.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.errors import EditFailed, PartlyFailed, RowError, SetupError
from u2s_datasets.images.geometry import paste_boxes
from u2s_datasets.parts import Edit

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """One order at the size at which the model works.

    Args:
        edit: the order; its texts, seed and strength are those to use, its image has the original's size.
        image: RGB, at most `max_pixels`, sides multiples of the model's own.
        size: (width, height) before padding.
    """

    edit: Edit
    image: Image.Image
    size: tuple[int, int]


def edit(
    edits: Sequence[Edit],
    run: Callable[[Sequence[Prepared]], torch.Tensor],
    multiple: int,
    max_pixels: int,
    batch_size: int,
    region: str,
    needs: Sequence[str] = (),
) -> list[Image.Image]:
    """One RGB image per order, of its image's size.

    Args:
        run: from a batch of one size to (N, 3, H, W) floats in [0, 1].
        multiple: the sides of the model's images are multiples of this.
        max_pixels: larger images are shrunk to this many pixels.
        batch_size: most orders at a time.
        region: "image" or "boxes"; see `DiffusionEditor`.
        needs: texts of `Edit` without which an order fails.

    Raises:
        EditFailed: the only order failed.
        PartlyFailed: some of several failed; it holds every order's image or error.
    """
    prepared = [prepare(order, multiple, max_pixels) for order in edits]
    buckets: dict[tuple[int, int], list[int]] = {}
    results: dict[int, Image.Image | RowError] = {}
    for i, order in enumerate(prepared):
        if missing := [name for name in needs if not getattr(order.edit, name).strip()]:
            results[i] = EditFailed(f"the order has no {' and no '.join(missing)}, and this editor needs it")
        else:
            buckets.setdefault(order.image.size, []).append(i)
    for bucket in buckets.values():
        outputs, batch_size = run_in_batches([prepared[i] for i in bucket], run, batch_size)
        for i, output in zip(bucket, outputs, strict=True):
            results[i] = finish(prepared[i], output, region)
    return images_or_raise([results[i] for i in range(len(edits))])


def prepare(edit: Edit, multiple: int, max_pixels: int) -> Prepared:
    """The order's image shrunk to at most `max_pixels`, its proportions kept, and padded to `multiple`."""
    image = edit.image.convert("RGB")
    if image.width * image.height > max_pixels:
        scale = (max_pixels / (image.width * image.height)) ** 0.5
        size = max(int(image.width * scale), 1), max(int(image.height * scale), 1)
        image = image.resize(size, Image.Resampling.LANCZOS)
    return Prepared(edit, *images.pad(image, multiple))


def run_in_batches(
    orders: Sequence[Prepared], run: Callable[[Sequence[Prepared]], torch.Tensor], batch_size: int
) -> tuple[list[np.ndarray | RowError], int]:
    """`run` over at most `batch_size` orders at a time; half as many from there on when memory runs out.

    If a batch raises anything else, its orders are tried one by one, and those that raise fail alone.

    Returns:
        Per order (H, W, 3) float32 in [0, 1], unchecked, or the error of a single order; and the batch size to go on
        with.

    Raises:
        SetupError: as `run` does, since it is not the fault of one order.
    """
    import torch

    results: list[np.ndarray | RowError] = []
    while len(results) < len(orders):
        batch = orders[len(results) : len(results) + batch_size]
        try:
            outputs = run(batch).detach().float().permute(0, 2, 3, 1).cpu().numpy()
            if len(outputs) != len(batch):
                raise ValueError(f"{len(batch)} orders went in and {len(outputs)} images came out")
            results += list(outputs)
            continue
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                results.append(EditFailed("one image alone does not fit into the GPU's memory"))
            log.warning("out of memory with %d images at once: %s", len(batch), str(error).partition(".")[0])
        except SetupError:
            raise
        except Exception as error:  # noqa: BLE001  the row boundary: whatever a model raises fails its orders (law 1)
            if len(batch) == 1:
                results.append(_as_row_error(error))
            else:
                log.debug("a batch of %d images failed; they are tried one by one", len(batch), exc_info=True)
                results += run_in_batches(batch, run, 1)[0]
            continue
        # After the except block: until then the exception holds the tensors of every frame it passed.
        batch_size = max(len(batch) // 2, 1)
        torch.cuda.empty_cache()
    return results, batch_size


def _as_row_error(error: Exception) -> RowError:
    """The error of a single order. A library's message may quote a text: it is kept as the cause and never shown."""
    if isinstance(error, RowError):
        return error
    log.debug("an image could not be edited", exc_info=error)
    traceback.clear_frames(error.__traceback__)  # else its tensors would stay for as long as the error does
    failed = EditFailed(f"the editor raised {type(error).__name__}; the debug log has its message")
    failed.__cause__ = error
    return failed


def finish(order: Prepared, output: np.ndarray | RowError, region: str) -> Image.Image | RowError:
    """The model's output as an image of the original's size, or the error that fails the order.

    Args:
        output: (H, W, 3) floats in [0, 1] at the size of `order.image`.
        region: "image" or "boxes"; see `DiffusionEditor`.
    """
    if isinstance(output, RowError):
        return output
    if not np.isfinite(output).all():
        return EditFailed("the editor's image holds values that are not finite")
    pixels = (output.clip(0, 1) * 255).round().astype(np.uint8)
    if not pixels.any():
        return EditFailed("the editor's image is black, as a safety checker or an overflow leaves it")
    original = order.edit.image
    image = images.unpad(Image.fromarray(pixels), order.size)
    if image.size != original.size:
        image = image.resize(original.size, Image.Resampling.LANCZOS)
    if region == "image" or not order.edit.boxes:
        return image
    try:
        return paste_boxes(original, image, order.edit.boxes)
    except EditFailed as error:
        return error


def images_or_raise(results: Sequence[Image.Image | RowError]) -> list[Image.Image]:
    """The images, if all orders succeeded.

    Raises:
        RowError: the only order's error.
        PartlyFailed: some of several orders failed; it holds all results.
    """
    errors = [result for result in results if isinstance(result, RowError)]
    if errors:
        raise errors[0] if len(results) == 1 else PartlyFailed(results)
    return [result for result in results if isinstance(result, Image.Image)]
