"""Self-attention with the maps of another row, as FreePrompt lays the source under the target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from u2s_datasets.parts.editors import unet as unets

if TYPE_CHECKING:
    import torch

COARSE = 2
"""Layers whose grid is coarser than the latents by at least this factor take the source's maps. At 512 px these are
the layers of at most 32² tokens, as the reference has it; told by level, other sizes keep the method."""


@dataclass
class SourceMaps:
    """Whether the coarse self-attention layers of a UNet give the last rows of a batch the maps of the first ones.

    Args:
        rows: how many rows at each end; 0 leaves the layers to their own processors.
    """

    rows: int = 0

    @classmethod
    def of(cls, unet: Any) -> SourceMaps:
        """Put the processors into the layers of a UNet that are coarse enough."""
        maps = cls()
        for layer in unets.layers(unet, "attn1"):
            if layer.downsampling >= COARSE:
                layer.attention.set_processor(MapsProcessor(layer.attention.processor, maps))
        return maps

    @contextlib.contextmanager
    def of_the_first(self, rows: int) -> Iterator[None]:
        """Replace maps within this context."""
        self.rows = rows
        try:
            yield
        finally:
            self.rows = 0


@dataclass(frozen=True)
class MapsProcessor:
    """Self-attention in which the last rows attend with the maps of the first.

    A map is softmax(q·kᵀ/√d), so taking another row's map is taking its queries and keys: the same result, with
    no map in memory, and the replaced rows' own queries and keys are never computed.
    """

    own: Any
    maps: SourceMaps

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        rows = self.maps.rows
        if not rows:
            return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        query, key = (unets.heads(made(hidden_states[:-rows]), attn.heads) for made in (attn.to_q, attn.to_k))
        query, key = torch.cat([query, query[:rows]]), torch.cat([key, key[:rows]])
        value = unets.heads(attn.to_v(hidden_states), attn.heads)
        attended = scaled_dot_product_attention(query, key, value, scale=attn.scale)
        return attn.to_out[0](unets.joined(attended))
