"""Filtered evaluation: ranks of held-out triples among candidates that are not known otherwise.

What computes with scores needs torch. Reports, metrics and relation kinds need numpy only, so each
name is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negserve.terminal.extras import needing

if TYPE_CHECKING:
    from negserve.evaluation.cardinality import RELATION_KINDS, relation_kinds
    from negserve.evaluation.evaluation_report import EvaluationReport
    from negserve.evaluation.evaluator import evaluate
    from negserve.evaluation.known_index import KnownIndex, known, mask_known
    from negserve.evaluation.metrics import METRIC_NAMES, metric
    from negserve.evaluation.protocols import EvaluationGraph, ScoreFunction
    from negserve.evaluation.ranking import Ranks, ranks

__all__ = [
    "METRIC_NAMES",
    "RELATION_KINDS",
    "EvaluationGraph",
    "EvaluationReport",
    "KnownIndex",
    "Ranks",
    "ScoreFunction",
    "evaluate",
    "known",
    "mask_known",
    "metric",
    "ranks",
    "relation_kinds",
]

# No module has the name of what it exports: once imported, it would stand for it here.
_MODULE_OF = {
    "METRIC_NAMES": "metrics",
    "RELATION_KINDS": "cardinality",
    "EvaluationGraph": "protocols",
    "EvaluationReport": "evaluation_report",
    "KnownIndex": "known_index",
    "Ranks": "ranking",
    "ScoreFunction": "protocols",
    "evaluate": "evaluator",
    "known": "known_index",
    "mask_known": "known_index",
    "metric": "metrics",
    "ranks": "ranking",
    "relation_kinds": "cardinality",
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
