"""The exported names: a change here is a change of the public API."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType

import pytest

import negserve
import negserve.aio
import negserve.data
import negserve.evaluation
import negserve.sampling
import negserve_server
import negserve_server.graph
import negserve_server.index
import negserve_server.report
import negserve_server.sampling

SURFACE = {
    negserve: "ChecksumError Client ClosedError CorruptedBatch CredentialsError EpochBatch "
    "EpochConfig EpochStream "
    "FingerprintMismatchError InvalidAnswerError InvalidRequestError KnownValues LeakageWarning "
    "LimitExceededError Limits LocalStorageError LocalTriplesFactory "
    "ManifestMismatchError NegserveError "
    "NegserveWarning NotAllowedError OverloadedError "
    "PublishProgress RelationStatistics RemoteSampler "
    "RemoteTriplesFactory RequestError SamplerConfig ServerFaultError ServerInfo "
    "ServerLimits ServiceError StalledError StorageFailedError "
    "SwappedColumnsWarning UnavailableError UnknownDatasetError UnknownPositivesWarning "
    "__version__",
    negserve_server: "__version__",
    negserve.aio: "Client EpochStream RemoteSampler RemoteTriplesFactory",
    negserve.data: "CompactTripleBatch TripleBatch TripleLoader TripleStream",
    negserve.evaluation: "CandidateBatch CandidateGuide CandidateTable ClassifiedScores Estimate "
    "EvaluationReport EvaluationSet GivenCandidates GivenNegatives GuidedRanks "
    "KnownIndex "
    "METRIC_NAMES RELATION_KINDS Ranks SampledRanks ScoreFunction "
    "TripleClassification audit_rows candidates_from_ogb classify_triples "
    "count_possible evaluate evaluator_input known mask_known metric negatives_from_triples "
    "ranks read_candidates relation_kinds write_candidates",
    negserve.sampling: "NEGATIVE_SAMPLERS BasicNegativeSampler BernoulliNegativeSampler "
    "ConfiguredSampler DegreeNegativeSampler MixtureNegativeSampler NegativeSampler "
    "PseudoTypedNegativeSampler SamplerOptions TriplesFactory TypedNegativeSampler batch_position "
    "expand expand_columns get_negative_sampler_cls",
    negserve_server.graph: "TriplesFactory TypeConstraints Vocabulary",
    negserve_server.index: "FilterIndex PairIndex Pairs",
    negserve_server.report: "FalseNegativeReport false_negative_report",
    negserve_server.sampling: "ALGORITHM_VERSION DrawTables Graph Permutation "
    "RelationCounts Sampler",
}


def test_exported_names():
    for module, names in SURFACE.items():
        assert sorted(module.__all__) == sorted(names.split()), module.__name__
        for name in names.split():
            assert getattr(module, name).__doc__ or name.isupper()


@pytest.mark.skipif(find_spec("pykeen") is None, reason="pykeen is not installed")
@pytest.mark.filterwarnings("default")  # PyKEEN's own
def test_exported_names_for_pykeen():
    module = import_module("negserve.integrations.pykeen")
    names = (
        "RemoteBasicNegativeSampler RemoteBernoulliNegativeSampler RemoteDegreeNegativeSampler "
        "RemoteFilterer RemoteMacroRankBasedEvaluator RemoteNegativeSampler "
        "RemotePseudoTypedNegativeSampler RemoteRankBasedEvaluator "
        "RemoteSampledRankBasedEvaluator negserve"
    )
    assert sorted(module.__all__) == names.split()
    for name in module.__all__:
        assert getattr(module, name).__doc__


@pytest.mark.parametrize(
    "program",
    [
        "import negserve",
        "from negserve.evaluation import EvaluationReport, EvaluationSet, SampledRanks, metric",
    ],
)
def test_the_client_needs_neither_torch_nor_the_server(program: str):
    program = (
        f"{program}; import sys; "
        "print({'torch', 'numba', 'polars', 'negserve_server', 'click'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("module", [negserve, negserve_server])
def test_the_version_is_that_of_the_package(module: ModuleType):
    assert module.__version__ == version("negserve")
