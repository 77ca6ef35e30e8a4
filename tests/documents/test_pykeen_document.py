"""docs/pykeen.md: its program runs, and its claims about PyKEEN hold."""

from __future__ import annotations

import inspect
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from negserve import Client, sampling
from negserve_server.graph import TriplesFactory
from tests.support import preloaded
from tests.support.graphs import REPOSITORY
from tests.support.server_process import ServerProcess, server_process

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENT = (REPOSITORY / "docs" / "pykeen.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:7733"
TRIPLES = torch.tensor([[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 1, 0]])
NUM_NATIONS = 1592
NO_TRAINING = torch.tensor([[0, 2, 1]])

needs_pykeen = pytest.mark.skipif(find_spec("pykeen") is None, reason="pykeen is not installed")


def graph() -> TriplesFactory:
    return TriplesFactory({"training": TRIPLES.numpy()}, num_entities=5, num_relations=3)


def program_with(part: str, document: str = DOCUMENT) -> str:
    """Return the program of a document that has a part."""
    programs = re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL)
    (program,) = (program for program in programs if part in program)
    return program


def run(program: str, server: ServerProcess, folder: Path) -> tuple[str, str]:
    """Run a program as written, except for the server's address; return both outputs."""
    assert program.count(ADDRESS) == 1
    result = preloaded.run(
        ["-c", program.replace(ADDRESS, server.target)],
        timeout=240, cwd=folder,
        env={**os.environ, "PYKEEN_HOME": str(folder)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


@needs_pykeen
def test_the_program_trains(server: ServerProcess, tmp_path: Path):
    said, _ = run(program_with("for epoch in range"), server, tmp_path)
    losses = [float(x) for x in re.findall(r"^epoch \d: loss (\S+)$", said, re.MULTILINE)]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]


@needs_pykeen
@pytest.mark.parametrize("document", [README, DOCUMENT], ids=["README", "guide"])
def test_the_pipelines_train(tmp_path: Path, document: str):
    """With a server that accepts graphs, as written: PyKEEN finds the sampler by its name."""
    with server_process("--allow-publish") as server:
        _, said = run(program_with("pipeline(", document), server, tmp_path)
        assert "Training epochs on" in said
        assert "Evaluating on" in said
        with Client(server.target) as client:
            (name,) = (it for it in client.list_datasets() if it.startswith("mapped-triples-"))
            assert client.triples_factory(name).num_triples == NUM_NATIONS


@needs_pykeen
@pytest.mark.filterwarnings("default")  # PyKEEN's own
def test_names_and_defaults_are_pykeens():
    from pykeen.sampling import negative_sampler_resolver as resolver

    # Not those that this project adds.
    names = {
        name for name, cls in resolver.lookup_dict.items() if cls.__module__.startswith("pykeen.")
    }
    assert {"basic", "bernoulli", "pseudotyped"} <= names <= set(sampling.NEGATIVE_SAMPLERS)
    for name in names:
        theirs, cls = resolver.lookup(name), sampling.NEGATIVE_SAMPLERS[name]
        assert theirs.__name__ == cls.__name__
        assert theirs.get_normalized_name() == cls.get_normalized_name() == name
        assert theirs.hpo_default == cls.hpo_default
    assert resolver.lookup(None).__name__ == sampling.get_negative_sampler_cls(None).__name__


@needs_pykeen
@pytest.mark.filterwarnings("default")
def test_slots_are_spread_within_each_positive_not_over_the_batch():
    from pykeen.sampling import BasicNegativeSampler

    def heads_replaced(negatives: torch.Tensor) -> list[int]:
        return (negatives != TRIPLES[:, None])[..., 0].sum(dim=1).tolist()

    theirs, _ = BasicNegativeSampler(mapped_triples=TRIPLES, num_negs_per_pos=4).sample(TRIPLES)
    assert heads_replaced(theirs) == [4, 4, 0, 0]
    ours, _ = sampling.BasicNegativeSampler(graph(), 4).sample(TRIPLES)
    assert heads_replaced(ours) == [2, 2, 2, 2]


@needs_pykeen
@pytest.mark.filterwarnings("default")
def test_the_original_is_drawn_by_pykeen_only():
    from pykeen.sampling import PseudoTypedNegativeSampler

    theirs = PseudoTypedNegativeSampler(mapped_triples=TRIPLES, num_negs_per_pos=200)
    assert (theirs.sample(TRIPLES)[0] == TRIPLES[:, None]).all(dim=-1).any()
    ours = sampling.PseudoTypedNegativeSampler(graph(), 200)
    assert not (ours.sample(TRIPLES)[0] == TRIPLES[:, None]).all(dim=-1).any()


@needs_pykeen
@pytest.mark.filterwarnings("default")
def test_a_relation_without_training_triples():
    from pykeen.sampling import BernoulliNegativeSampler, PseudoTypedNegativeSampler

    options = {"mapped_triples": TRIPLES, "num_relations": 3, "num_negs_per_pos": 6}
    negatives, _ = BernoulliNegativeSampler(**options).sample(NO_TRAINING)
    assert (negatives[0, :, 2] != 1).all(), "PyKEEN replaces only the tail"
    with pytest.raises(IndexError):
        PseudoTypedNegativeSampler(**options).sample(NO_TRAINING)
    negatives, _ = sampling.BernoulliNegativeSampler(graph(), 6).sample(NO_TRAINING)
    assert (negatives[0, :, 0] != 0).sum() == 3
    for filtered in (False, True):
        sampler = sampling.PseudoTypedNegativeSampler(graph(), 6, filtered)
        negatives, mask = sampler.sample(NO_TRAINING)
        assert ((negatives != NO_TRAINING).sum(dim=-1) == 1).all()
        assert (mask is not None) == filtered
        assert mask is None or not mask.any()


@needs_pykeen
@pytest.mark.filterwarnings("default")
def test_quotes_are_kept_here_and_dropped_by_pandas(tmp_path: Path):
    from pykeen.triples import TriplesFactory as PykeenTriplesFactory

    path = tmp_path / "train.tsv"
    path.write_text('"a"\tr\tb\nb\tr\tc\n')
    assert set(PykeenTriplesFactory.from_path(str(path)).entity_to_id) == {"a", "b", "c"}
    assert set(TriplesFactory.from_path(path).entity_to_id) == {'"a"', "b", "c"}


#: What the documentation page of PyKEEN 1.1 to 1.4 lists.
PAGE = {
    "triples_factory", "num_negs_per_pos", "filtered", "filter_negative_triples", "hpo_default",
    "num_relations", "sample", "get_negative_sampler_cls",
}  # fmt: skip


def test_the_table_of_the_documented_api():
    """Each member of the page exists, and does what the page says."""
    section = DOCUMENT.split("## The documented API")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", section, flags=re.MULTILINE))
    assert set(rows) == PAGE
    world = graph()
    signature = inspect.signature(sampling.NegativeSampler)
    defaults = {name: it.default for name, it in list(signature.parameters.items())[:3]}
    assert defaults == {
        "triples_factory": inspect.Parameter.empty, "num_negs_per_pos": None, "filtered": False,
    }  # fmt: skip
    for cls in sampling.NEGATIVE_SAMPLERS.values():
        if cls.kind in {"typed", "mixture"}:
            continue  # they need more than the page's arguments
        assert list(inspect.signature(cls).parameters)[:3] == list(defaults)
        plain, sampler = cls(world), cls(world, 2, True)
        values = {}
        for member, ours in rows.items():
            owner, _, attribute = ours.rpartition(".")
            if owner:
                assert attribute == member
                values[member] = getattr(sampler, attribute)
            else:
                values[member] = getattr(sampling, ours)
        assert values["triples_factory"] is world
        assert (values["num_negs_per_pos"], plain.num_negs_per_pos) == (2, 1)
        assert (values["filtered"], plain.filtered) == (True, False)
        assert values["num_relations"] == 3
        assert isinstance(inspect.getattr_static(cls, "num_relations"), property)
        assert values["hpo_default"]["num_negs_per_pos"] == {
            "type": int, "low": 1, "high": 100, "log": True,
        }  # fmt: skip
        negatives, mask = values["sample"](TRIPLES)
        assert (negatives.shape, negatives.dtype, mask.shape) == ((4, 2, 3), torch.long, (4, 2))
        assert plain.sample(TRIPLES)[1] is None
        unknown = torch.tensor([[4, 0, 4]])
        kept, flags = values["filter_negative_triples"](torch.cat([TRIPLES, unknown]))
        assert (kept.tolist(), flags.tolist()) == (unknown.tolist(), [False] * 4 + [True])
        look_up = values["get_negative_sampler_cls"]
        assert look_up(cls.get_normalized_name()) is look_up(cls) is look_up(cls.__name__) is cls


def test_the_page_has_these_members():
    path = REPOSITORY.parent / "shared" / "negative-sampling-page.txt"
    if not path.is_file():
        pytest.skip(f"the page is not at {path}")
    page = path.read_text(encoding="utf-8")
    for member in PAGE - {"get_negative_sampler_cls"}:
        assert re.search(rf"\b{member}\b", page), member
    assert "Get the negative sampler class." in page


@needs_pykeen
@pytest.mark.filterwarnings("default")
def test_the_table_of_names_is_that_of_the_classes():
    from negserve.integrations import pykeen as integration

    lines = re.findall(r"^\| (?:\w+ )?(`remote[^|]*) \| (`Remote[^|]*) \|", DOCUMENT, re.MULTILINE)
    rows = [
        row
        for columns in lines
        for row in zip(*(re.findall(r"\w+", cell) for cell in columns), strict=True)
    ]
    assert {name for _, name in rows} == set(integration.__all__) - {"negserve"}
    for short, name in rows:
        assert name.lower().startswith(short)


def test_every_name_of_negserve_in_the_table_exists():
    table = DOCUMENT.split("## Call by call")[1].split("\n## ")[0]
    column = [row.split(" | ")[1] for row in table.splitlines() if row.startswith("| ")]
    sampler = sampling.BasicNegativeSampler(graph())
    names = re.findall(r"sampler\.(\w+)", " ".join(column))
    assert {"sample", "sample_compact", "position", "filter_negative_triples"} <= set(names)
    for name in names:
        assert hasattr(sampler, name), name


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)[^)]*\)", DOCUMENT))
def test_links_have_targets(link: str):
    assert (REPOSITORY / "docs" / link).exists()
