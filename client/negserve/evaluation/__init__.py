"""Evaluation: pinned candidates."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negserve.evaluation.candidate_files import read_candidates, write_candidates
    from negserve.evaluation.candidate_table import CandidateBatch, CandidateTable
    from negserve.evaluation.evaluation_set import EvaluationSet
    from negserve.evaluation.given_candidates import (
        GivenCandidates,
        GivenNegatives,
        candidates_from_ogb,
        negatives_from_triples,
    )

__all__ = [
    "CandidateBatch",
    "CandidateTable",
    "EvaluationSet",
    "GivenCandidates",
    "GivenNegatives",
    "candidates_from_ogb",
    "negatives_from_triples",
    "read_candidates",
    "write_candidates",
]

# Imported on first use: most of it needs neither torch nor polars.
_MODULE_OF = {
    "CandidateBatch": "candidate_table",
    "CandidateTable": "candidate_table",
    "EvaluationSet": "evaluation_set",
    "GivenCandidates": "given_candidates",
    "GivenNegatives": "given_candidates",
    "candidates_from_ogb": "given_candidates",
    "negatives_from_triples": "given_candidates",
    "read_candidates": "candidate_files",
    "write_candidates": "candidate_files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
