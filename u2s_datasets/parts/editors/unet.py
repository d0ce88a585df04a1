"""What the editors on a Stable Diffusion UNet share: its attention layers in order, its texts, groups of orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import Once, warn_of_long

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Layer:
    """One attention layer of a UNet.

    Args:
        name: its path in the UNet.
        attention: the layer, a diffusers `Attention`.
        downsampling: by how much its grid is coarser than the latents, along a side: 1, 2, 4, …
    """

    name: str
    attention: Any
    downsampling: int


def layers(unet: Any, kind: str) -> list[Layer]:
    """The attention layers of a UNet in the order in which a forward pass runs them.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        kind: "attn1" for self-attention, "attn2" for cross-attention.
    """
    blocks = [(f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks)]
    blocks.append(("mid_block", unet.mid_block))
    blocks += [(f"up_blocks.{i}", block) for i, block in enumerate(unet.up_blocks)]
    found, downsampling = [], 1
    for path, block in blocks:
        named = block.named_modules() if block is not None else ()
        found += [Layer(f"{path}.{name}", module, downsampling) for name, module in named if name.endswith(f".{kind}")]
        if getattr(block, "downsamplers", None) is not None:
            downsampling *= 2
        if getattr(block, "upsamplers", None) is not None:
            downsampling //= 2
    return found


def heads(projected: torch.Tensor, number: int) -> torch.Tensor:
    """(N, tokens, channels) as (N, heads, tokens, channels of one head)."""
    return projected.unflatten(-1, (number, -1)).transpose(1, 2)


def joined(attended: torch.Tensor) -> torch.Tensor:
    """(N, heads, tokens, channels of one head) as (N, tokens, channels)."""
    return attended.transpose(1, 2).flatten(2)


def text_cache(pipeline: Any) -> Once:
    """Texts to CLIP's last hidden states (1, 77, channels), each text encoded once.

    The pipelines' own method is not used: it logs the words that it cuts off, and some texts are private.
    """
    import torch

    @torch.no_grad()
    def encode(text: str) -> torch.Tensor:
        length = pipeline.tokenizer.model_max_length
        warn_of_long(pipeline.tokenizer, [text], length)
        tokens = pipeline.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return pipeline.text_encoder(tokens.to(pipeline._execution_device))[0]

    return Once(encode)


def by_strength(batch: Sequence[Prepared], run: Callable[[Sequence[Prepared], int], torch.Tensor]) -> torch.Tensor:
    """`run(orders, strength)` once for each strength in the batch; the pictures (N, ...) in the batch's order."""
    import torch

    strengths = [max(order.edit.strength, 0) for order in batch]
    pictures: dict[int, torch.Tensor] = {}
    for strength in sorted(set(strengths)):
        rows = [i for i, own in enumerate(strengths) if own == strength]
        pictures |= zip(rows, run([batch[i] for i in rows], strength), strict=True)
    return torch.stack([pictures[i] for i in range(len(batch))])
