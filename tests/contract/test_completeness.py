"""Every RPC and every sampler has a contract case."""

from __future__ import annotations

import re
from pathlib import Path

from negserve.sampling import NEGATIVE_SAMPLERS, NegativeSampler
from negserve.v1 import sampler_pb2 as pb
from tests.contract.test_promises import SAMPLERS

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]


def test_every_rpc_is_covered():
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    covered = set(re.findall(r'@pytest\.mark\.covers\("(\w+)"\)', sources))
    assert covered == {method.name for method in SERVICE.methods}


def test_every_sampler_is_covered():
    def subclasses(cls: type[NegativeSampler]) -> set[type[NegativeSampler]]:
        found = set(cls.__subclasses__())
        return found.union(*(subclasses(each) for each in found))

    shipped = {cls for cls in subclasses(NegativeSampler) if cls.__module__.startswith("negserve.")}
    assert {NEGATIVE_SAMPLERS[name] for name in SAMPLERS} == shipped


def test_every_kind_of_the_proto_has_a_sampler():
    kinds = {
        name.removeprefix("SAMPLER_KIND_").replace("_", "").lower()
        for name in pb.SamplerKind.keys()
        if name != "SAMPLER_KIND_UNSPECIFIED"
    }
    assert kinds == {cls.kind for cls in NEGATIVE_SAMPLERS.values()}
