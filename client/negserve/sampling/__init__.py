"""Negative samplers with PyKEEN's API, over a remote graph or one in process."""

from negserve.terminal.extras import needing

with needing("negserve.sampling", "negserve[client]"):
    from negserve.sampling.basic_negative_sampler import BasicNegativeSampler
    from negserve.sampling.batch_position import batch_position
    from negserve.sampling.bernoulli_negative_sampler import BernoulliNegativeSampler
    from negserve.sampling.degree_negative_sampler import DegreeNegativeSampler
    from negserve.sampling.expansion import expand
    from negserve.sampling.mixture_negative_sampler import MixtureNegativeSampler
    from negserve.sampling.negative_sampler import NegativeSampler
    from negserve.sampling.options import SamplerOptions
    from negserve.sampling.protocol import CompactBatch, ConfiguredSampler, TriplesFactory
    from negserve.sampling.pseudo_typed_negative_sampler import PseudoTypedNegativeSampler
    from negserve.sampling.resolver import NEGATIVE_SAMPLERS, get_negative_sampler_cls
    from negserve.sampling.typed_negative_sampler import TypedNegativeSampler

__all__ = [
    "NEGATIVE_SAMPLERS",
    "BasicNegativeSampler",
    "BernoulliNegativeSampler",
    "CompactBatch",
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
    "get_negative_sampler_cls",
]
