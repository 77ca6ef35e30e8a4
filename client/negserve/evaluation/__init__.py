"""Filtered evaluation: ranks among candidates that are not known otherwise, and pinned candidates.

What computes with scores needs torch. Reports, metrics and candidate sets need numpy only, so each
name is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negserve.terminal.extras import needing

if TYPE_CHECKING:
    from negserve.evaluation.candidate_sets.audit import Estimate, audit_rows
    from negserve.evaluation.candidate_sets.candidate_files import read_candidates, write_candidates
    from negserve.evaluation.candidate_sets.candidate_guide import CandidateGuide
    from negserve.evaluation.candidate_sets.candidate_table import CandidateBatch, CandidateTable
    from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet
    from negserve.evaluation.candidate_sets.given_candidates import (
        GivenCandidates,
        GivenNegatives,
        candidates_from_ogb,
        negatives_from_triples,
    )
    from negserve.evaluation.candidate_sets.guided_ranks import GuidedRanks
    from negserve.evaluation.candidate_sets.sampled_ranks import SampledRanks, count_possible
    from negserve.evaluation.candidate_sets.triple_classification import (
        ClassifiedScores,
        TripleClassification,
        classify_triples,
    )
    from negserve.evaluation.ranking.evaluator import evaluate
    from negserve.evaluation.ranking.evaluator_input import evaluator_input
    from negserve.evaluation.ranking.known_index import KnownIndex, known, mask_known
    from negserve.evaluation.ranking.score_function import ScoreFunction
    from negserve.evaluation.ranking.score_ranks import Ranks, ranks
    from negserve.evaluation.reports.cardinality import RELATION_KINDS, relation_kinds
    from negserve.evaluation.reports.evaluation_report import EvaluationReport
    from negserve.evaluation.reports.metrics import METRIC_NAMES, metric

__all__ = [
    "METRIC_NAMES",
    "RELATION_KINDS",
    "CandidateBatch",
    "CandidateGuide",
    "CandidateTable",
    "ClassifiedScores",
    "Estimate",
    "EvaluationReport",
    "EvaluationSet",
    "GivenCandidates",
    "GivenNegatives",
    "GuidedRanks",
    "KnownIndex",
    "Ranks",
    "SampledRanks",
    "ScoreFunction",
    "TripleClassification",
    "audit_rows",
    "candidates_from_ogb",
    "classify_triples",
    "count_possible",
    "evaluate",
    "evaluator_input",
    "known",
    "mask_known",
    "metric",
    "negatives_from_triples",
    "ranks",
    "read_candidates",
    "relation_kinds",
    "write_candidates",
]

# No module has the name of what it exports: once imported, it would stand for it here.
_MODULE_OF = {
    "CandidateBatch": "candidate_sets.candidate_table",
    "CandidateGuide": "candidate_sets.candidate_guide",
    "CandidateTable": "candidate_sets.candidate_table",
    "ClassifiedScores": "candidate_sets.triple_classification",
    "Estimate": "candidate_sets.audit",
    "EvaluationReport": "reports.evaluation_report",
    "EvaluationSet": "candidate_sets.evaluation_set",
    "GivenCandidates": "candidate_sets.given_candidates",
    "GivenNegatives": "candidate_sets.given_candidates",
    "GuidedRanks": "candidate_sets.guided_ranks",
    "KnownIndex": "ranking.known_index",
    "METRIC_NAMES": "reports.metrics",
    "RELATION_KINDS": "reports.cardinality",
    "Ranks": "ranking.score_ranks",
    "SampledRanks": "candidate_sets.sampled_ranks",
    "ScoreFunction": "ranking.score_function",
    "TripleClassification": "candidate_sets.triple_classification",
    "audit_rows": "candidate_sets.audit",
    "candidates_from_ogb": "candidate_sets.given_candidates",
    "classify_triples": "candidate_sets.triple_classification",
    "count_possible": "candidate_sets.sampled_ranks",
    "evaluate": "ranking.evaluator",
    "evaluator_input": "ranking.evaluator_input",
    "known": "ranking.known_index",
    "mask_known": "ranking.known_index",
    "metric": "reports.metrics",
    "negatives_from_triples": "candidate_sets.given_candidates",
    "ranks": "ranking.score_ranks",
    "read_candidates": "candidate_sets.candidate_files",
    "relation_kinds": "reports.cardinality",
    "write_candidates": "candidate_sets.candidate_files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing(f"negserve.evaluation.{name}", "negserve[client]"):
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
