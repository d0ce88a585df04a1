"""What is done to tokens and their scores, apart from any model: sampling, beginnings of words, control tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Request


class Gumbel:
    """Adds each row's own noise to its scores, so that the highest one is a sample (the Gumbel-max trick).

    Args:
        requests: one per row; a temperature of 0 adds none.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        import torch

        self.heat = [request.temperature for request in requests]
        self.sources = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(N, vocabulary) scores to as many, noisy ones."""
        import torch

        rows = []
        for row, heat, source in zip(scores.float(), self.heat, self.sources, strict=True):
            if heat > 0:
                even = torch.rand(len(row), generator=source, dtype=torch.float64).clamp_(1e-300, 1 - 1e-16)
                row = row / heat - (-even.log()).log().to(row)
            rows.append(row)
        return torch.stack(rows)


def first_tokens(tokenizer: Any, choices: Sequence[str]) -> dict[str, set[int]]:
    """The tokens with which each choice can begin, with and without a space before it.

    A single letter may begin anything (F of FALSE, of Face) and is left out, as in `replies`.

    Raises:
        SetupError: two choices share one, or a choice has none.
    """
    firsts = {choice: {_first(tokenizer, text) for text in (choice, f" {choice}")} - {None} for choice in choices}
    for choice, ids in firsts.items():
        shared = [other for other in choices if other != choice and ids & firsts[other]]
        if shared or not ids:
            raise SetupError(
                f"choices={list(choices)!r}: this model's tokenizer cannot tell {choice!r} "
                f"from {repr(shared[0]) if shared else 'other words'} by its first token; "
                'ask with method="generate", or choose other words'
            )
    return firsts  # type: ignore[return-value]


def continues(request: Request) -> bool:
    """Whether a request's last turn is the beginning of its answer."""
    return request.messages[-1].role == "assistant"


def plain(text: str, tokenizer: Any) -> str:
    """Without control tokens: no text that was read in a picture may end a turn or stand for a picture."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    for token in {*tokenizer.all_special_tokens, *added}:
        text = text.replace(token, " ")
    return text


def _first(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids or ids[0] == tokenizer.unk_token_id:
        return None
    begin = tokenizer.decode(ids[:1]).strip()
    return ids[0] if len(begin) > 1 or (begin and begin == text.strip()) else None
