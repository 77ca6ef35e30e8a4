"""Evaluation: pinned candidates, metrics estimated from samples of them, triple classification."""

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
    from negserve.evaluation.sampled_ranks import (
        Estimate,
        SampledRanks,
        audit_rows,
        count_possible,
    )
    from negserve.evaluation.triple_classification import (
        ClassifiedScores,
        TripleClassification,
        classify_triples,
    )

__all__ = [
    "CandidateBatch",
    "CandidateTable",
    "ClassifiedScores",
    "Estimate",
    "EvaluationSet",
    "GivenCandidates",
    "GivenNegatives",
    "SampledRanks",
    "TripleClassification",
    "audit_rows",
    "candidates_from_ogb",
    "classify_triples",
    "count_possible",
    "negatives_from_triples",
    "read_candidates",
    "write_candidates",
]

# Imported on first use: most of it needs neither torch nor polars.
_MODULE_OF = {
    "CandidateBatch": "candidate_table",
    "CandidateTable": "candidate_table",
    "ClassifiedScores": "triple_classification",
    "Estimate": "sampled_ranks",
    "EvaluationSet": "evaluation_set",
    "GivenCandidates": "given_candidates",
    "GivenNegatives": "given_candidates",
    "SampledRanks": "sampled_ranks",
    "TripleClassification": "triple_classification",
    "audit_rows": "sampled_ranks",
    "candidates_from_ogb": "given_candidates",
    "classify_triples": "triple_classification",
    "count_possible": "sampled_ranks",
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
