"""Conversion between ids with and without PyKEEN's inverse triples."""

from __future__ import annotations

import torch


def without_inverse(triples: torch.Tensor) -> torch.Tensor:
    r"""Return (h, r, t) for (h, 2 r, t) and for (t, 2 r + 1, h), shape (\*batch, 3)."""
    inverse = triples[..., 1:2] % 2 == 1
    triples = torch.where(inverse, triples.flip(-1), triples)
    return torch.cat([triples[..., :1], triples[..., 1:2] // 2, triples[..., 2:]], dim=-1)


def with_inverse(triples: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
    r"""Undo :func:`without_inverse`.

    :param triples: shape (\*batch, 3)
    :param relations: relation ids including inverse ones, shape (\*batch)
    """
    triples = torch.where((relations % 2 == 1).unsqueeze(-1), triples.flip(-1), triples)
    return torch.cat([triples[..., :1], relations.unsqueeze(-1), triples[..., 2:]], dim=-1)
