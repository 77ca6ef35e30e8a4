"""One module per sampler kind, with the name of the kind: what its distribution is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from negserve.types.kinds import PART_KINDS, Kind
from negserve_server.sampling.kinds.distribution import Distribution, SlotValues

_MODULES = {found.name for found in iter_modules(__path__)}

#: The distributions of all kinds but ``mixture``, which is made of them.
DISTRIBUTIONS: Mapping[Kind, Distribution] = MappingProxyType(
    {
        kind: import_module(f"{__name__}.{kind}").DISTRIBUTION
        for kind in PART_KINDS
        if kind in _MODULES
    }
)

__all__ = ["DISTRIBUTIONS", "Distribution", "SlotValues"]
