"""Every RPC, every sampler and every option has a contract case."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from negserve import SamplerConfig
from negserve.sampling import NEGATIVE_SAMPLERS, NegativeSampler
from negserve.types.kinds import PART_KINDS
from negserve.v1 import sampler_pb2 as pb
from tests.contract.cases import CASES, SAMPLERS

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]

#: Fields that tests give themselves, beside the options of a case.
GIVEN_BY_TESTS = {
    "kind",
    "num_negs_per_pos",
    "filter_splits",
    "filter_mode",
    "log_q",
    "seed",
    "algorithm_version",
}


def test_every_rpc_is_covered():
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    covered = set(re.findall(r'@pytest\.mark\.covers\("(\w+)"\)', sources))
    assert covered == {method.name for method in SERVICE.methods}


def test_every_sampler_is_covered():
    def subclasses(cls: type[NegativeSampler]) -> set[type[NegativeSampler]]:
        found = set(cls.__subclasses__())
        return found.union(*(subclasses(each) for each in found))

    shipped = {cls for cls in subclasses(NegativeSampler) if cls.__module__.startswith("negserve.")}
    assert {case.cls for case in SAMPLERS.values()} == shipped
    assert dict(NEGATIVE_SAMPLERS) == {name: case.cls for name, case in SAMPLERS.items()}


def test_every_kind_is_a_part_of_a_mixture():
    parts = {part for case in CASES.values() for part in case.options.get("mixture", ())}
    assert parts == set(PART_KINDS)


def test_every_option_is_covered():
    names = {field.name for field in fields(SamplerConfig)}
    assert names == {field.name for field in pb.SamplerConfig.DESCRIPTOR.fields}
    covered = {name for case in CASES.values() for name in case.options}
    assert covered == names - GIVEN_BY_TESTS
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for name in ("filter_splits", "filter_mode", "log_q", "seed"):
        assert f"{name}=" in sources
