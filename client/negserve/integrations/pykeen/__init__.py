"""Samplers and a filterer for PyKEEN's training loops, pipeline and HPO. Needs ``pykeen``.

Importing this package registers names with PyKEEN's resolvers: ``remotebasic``,
``remotebernoulli``, ``remotepseudotyped``, ``remotedegree`` and ``remote`` as negative samplers,
``remote`` as a filterer, ``remoterankbased``, ``remotemacrorankbased`` and
``remotesampledrankbased`` as evaluators. PyKEEN imports this package by itself, through the entry
point of :func:`negserve`, which loads a server's training triples for PyKEEN's
``load_triples("negserve:DATASET")``.
"""

from negserve.terminal.extras import needing

with needing("negserve.integrations.pykeen", "negserve[pykeen]"):
    from pykeen.evaluation import evaluator_resolver
    from pykeen.sampling import negative_sampler_resolver
    from pykeen.sampling.filtering import filterer_resolver

    from negserve.integrations.pykeen.evaluators import (
        RemoteMacroRankBasedEvaluator,
        RemoteRankBasedEvaluator,
        RemoteSampledRankBasedEvaluator,
    )
    from negserve.integrations.pykeen.filterer import RemoteFilterer
    from negserve.integrations.pykeen.labeled_triples import negserve
    from negserve.integrations.pykeen.negative_samplers import (
        RemoteBasicNegativeSampler,
        RemoteBernoulliNegativeSampler,
        RemoteDegreeNegativeSampler,
        RemoteNegativeSampler,
        RemotePseudoTypedNegativeSampler,
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

for _cls in (
    RemoteBasicNegativeSampler,
    RemoteBernoulliNegativeSampler,
    RemoteDegreeNegativeSampler,
    RemotePseudoTypedNegativeSampler,
    RemoteNegativeSampler,
):
    negative_sampler_resolver.register(_cls)
filterer_resolver.register(RemoteFilterer)
for _evaluator in (
    RemoteRankBasedEvaluator,
    RemoteMacroRankBasedEvaluator,
    RemoteSampledRankBasedEvaluator,
):
    evaluator_resolver.register(_evaluator)
