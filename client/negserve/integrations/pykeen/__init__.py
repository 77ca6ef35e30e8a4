"""Samplers and a filterer for PyKEEN's training loops, pipeline and HPO. Needs ``pykeen``.

Importing this package registers names with PyKEEN's resolvers: ``remotebasic``,
``remotebernoulli``, ``remotepseudotyped``, ``remotedegree`` and ``remote`` as negative samplers,
``remote`` as a filterer, ``remoterankbased``, ``remotemacrorankbased`` and
``remotesampledrankbased`` as evaluators. PyKEEN imports this package by itself, through the entry
point of :func:`negserve`, which loads a server's training triples for PyKEEN's
``load_triples("negserve:DATASET")``.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from negserve.terminal.extras import needing

with needing("negserve.integrations.pykeen", "negserve[pykeen]"):
    import wrapt
    from pykeen.sampling import negative_sampler_resolver
    from pykeen.sampling.filtering import filterer_resolver

    from negserve.integrations.pykeen.filterer import RemoteFilterer
    from negserve.integrations.pykeen.labeled_triples import negserve
    from negserve.integrations.pykeen.negative_samplers import (
        RemoteBasicNegativeSampler,
        RemoteBernoulliNegativeSampler,
        RemoteDegreeNegativeSampler,
        RemoteNegativeSampler,
        RemotePseudoTypedNegativeSampler,
    )

if TYPE_CHECKING:
    from negserve.integrations.pykeen.evaluators import (
        RemoteMacroRankBasedEvaluator,
        RemoteRankBasedEvaluator,
        RemoteSampledRankBasedEvaluator,
    )

__all__ = [
    "RemoteBasicNegativeSampler",
    "RemoteBernoulliNegativeSampler",
    "RemoteDegreeNegativeSampler",
    "RemoteFilterer",
    "RemoteMacroRankBasedEvaluator",
    "RemoteNegativeSampler",
    "RemotePseudoTypedNegativeSampler",
    "RemoteRankBasedEvaluator",
    "RemoteSampledRankBasedEvaluator",
    "negserve",
]

_EVALUATORS = (
    "RemoteMacroRankBasedEvaluator",
    "RemoteRankBasedEvaluator",
    "RemoteSampledRankBasedEvaluator",
)

for _cls in (
    RemoteBasicNegativeSampler,
    RemoteBernoulliNegativeSampler,
    RemoteDegreeNegativeSampler,
    RemotePseudoTypedNegativeSampler,
    RemoteNegativeSampler,
):
    negative_sampler_resolver.register(_cls)
filterer_resolver.register(RemoteFilterer)


def __getattr__(name: str) -> Any:
    if name not in _EVALUATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.evaluators"), name)


def _register_evaluators(_: object) -> None:
    import_module(f"{__name__}.evaluators")  # which does so at its end


# PyKEEN imports this package from its triples, which its evaluators need. So it may be in the
# middle of the import of its evaluators, which then is complete when its pipeline is imported.
_evaluation = sys.modules.get("pykeen.evaluation")
_is_incomplete = _evaluation is not None and not hasattr(_evaluation, "evaluator_resolver")
wrapt.when_imported("pykeen.pipeline" if _is_incomplete else "pykeen.evaluation")(
    _register_evaluators
)
