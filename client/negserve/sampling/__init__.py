"""Negative samplers with PyKEEN's API, over a remote graph or one in process."""

from negserve.terminal.extras import needing

with needing("negserve.sampling", "negserve[client]"):
    from negserve.sampling.batch_position import batch_position
    from negserve.sampling.expansion import expand, expand_columns
    from negserve.sampling.negative_sampler import NegativeSampler
    from negserve.sampling.negative_samplers import (
        NEGATIVE_SAMPLERS,
        BasicNegativeSampler,
        BernoulliNegativeSampler,
        DegreeNegativeSampler,
        MixtureNegativeSampler,
        PseudoTypedNegativeSampler,
        TypedNegativeSampler,
    )
    from negserve.sampling.options import SamplerOptions
    from negserve.sampling.resolver import get_negative_sampler_cls
    from negserve.types.triples_factory import ConfiguredSampler, TriplesFactory


__all__ = [
    "NEGATIVE_SAMPLERS",
    "BasicNegativeSampler",
    "BernoulliNegativeSampler",
    "ConfiguredSampler",
    "DegreeNegativeSampler",
    "MixtureNegativeSampler",
    "NegativeSampler",
    "PseudoTypedNegativeSampler",
    "SamplerOptions",
    "TriplesFactory",
    "TypedNegativeSampler",
    "batch_position",
    "expand",
    "expand_columns",
    "get_negative_sampler_cls",
]
