"""What the editors on a Stable Diffusion UNet share: its attention layers in order, and the embeddings of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from u2s_datasets.parts.editors.diffusion import TextEmbeddingCache, warn_if_truncated

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


def attention_layers(unet: Any, kind: str) -> list[Layer]:
    """The attention layers of a UNet in the order in which a forward pass runs them.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        kind: "attn1" for self-attention, "attn2" for cross-attention.
    """
    blocks = [
        *((f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks)),
        ("mid_block", unet.mid_block),
        *((f"up_blocks.{i}", block) for i, block in enumerate(unet.up_blocks)),
    ]
    found, downsampling = [], 1
    for path, block in blocks:
        modules = block.named_modules() if block is not None else ()
        found += [Layer(f"{path}.{name}", m, downsampling) for name, m in modules if name.endswith(f".{kind}")]
        if getattr(block, "downsamplers", None) is not None:
            downsampling *= 2
        if getattr(block, "upsamplers", None) is not None:
            downsampling //= 2
    return found


def split_heads(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """(N, tokens, channels) as (N, heads, tokens, channels of one head)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(attended: torch.Tensor) -> torch.Tensor:
    """(N, heads, tokens, channels of one head) as (N, tokens, channels)."""
    return attended.transpose(1, 2).flatten(2)


def clip_embeddings(pipeline: Any) -> TextEmbeddingCache:
    """Texts to CLIP's last hidden states (1, 77, channels), each text encoded once.

    The pipelines' own method is not used: it logs the words that it cuts off, and some texts are private.
    """

    def encode(text: str) -> torch.Tensor:
        length = pipeline.tokenizer.model_max_length
        warn_if_truncated(pipeline.tokenizer, [text], length)
        tokens = pipeline.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return pipeline.text_encoder(tokens.to(pipeline._execution_device))[0]

    return TextEmbeddingCache(encode)


def stack_embeddings(texts: TextEmbeddingCache, *columns: Sequence[str]) -> list[torch.Tensor]:
    """(N, 77, channels) for each column of N texts."""
    import torch

    return [torch.cat(texts([text.strip() for text in column])) for column in columns]
