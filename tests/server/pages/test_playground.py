"""The playground: it draws what calls draw, of whatever a visitor asks for, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from negserve import Client
from negserve_server.pages import drawing_turns
from negserve_server.pages.drawing_turns import MOST_AT_ONCE, DrawingTurns
from negserve_server.pages.refused_request import RefusedRequest
from tests.support.graphs import load
from tests.support.programs.web_page import WebPage, open_page
from tests.support.scraping import Scraper, scraped_server

SCRIPT, IMAGE, REORDERED = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "b\u202ec"


@pytest.fixture(scope="module", params=[1, 2])
def scraper(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scraper]:
    folder = tmp_path_factory.mktemp("playground")
    lines = f"{SCRIPT}\t{IMAGE}\t&amp;\n&amp;\t{IMAGE}\t{REORDERED}\n"
    (folder / "hostile.tsv").write_text(lines, encoding="utf-8")
    options = (
        "--status-page", "--dataset", "world", "--dataset", f"hostile={folder / 'hostile.tsv'}",
        "--workers", str(request.param),
    )  # fmt: skip
    with scraped_server(folder / "log", *options) as scraper:
        yield scraper


def draw(scraper: Scraper, **fields: object) -> WebPage:
    return open_page(scraper.url, "/playground", **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "basic", "filter": "exact", "k": 20},
        {"kind": "bernoulli", "filter": "mask", "seed": 2**64 - 1, "position": 2**63},
        {"kind": "degree", "filter": "exact", "seed": 7, "position": 12345},
        {"kind": "typed", "filter": "mask", "k": 20},
        {"kind": "pseudotyped", "filter": "exact"},
    ],
    ids=lambda fields: fields["kind"],
)
def test_negatives_are_those_of_a_call(scraper: Scraper, fields: dict[str, Any]):
    head, relation, tail = load("world").splits["training"][1000].tolist()
    page = draw(scraper, dataset="world", head=head, relation=relation, tail=tail, **fields)
    assert page.status == 200, page.text
    with Client(scraper.server.target) as client:
        factory = client.triples_factory("world")
        positive = np.array([[head, relation, tail]])
        sampler = factory.open_sampler(
            kind=fields["kind"],
            num_negs_per_pos=fields.get("k", 10),
            filter_splits=("training", "validation", "testing"),
            filter_mode=fields["filter"],
            seed=fields.get("seed", 0),
        )
        drawn = sampler.sample(positive, fields.get("position", 0)).triples(positive)[0]
    assert [triple for triple, _ in page.negatives] == [tuple(each) for each in drawn.tolist()]


def test_the_program_that_it_shows_draws_the_same(scraper: Scraper):
    page = draw(scraper, head="Croatia", relation="shares_border_with", tail="Hungary", seed=3)
    names: dict[str, Any] = {}
    exec(page.code.replace("HOST:PORT", scraper.server.target), names)
    names["sampler"].close()
    triples = [tuple(each) for each in names["negatives"].tolist()]
    assert [triple for triple, _ in page.negatives] == triples


def test_known_triples_are_struck_out_and_others_are_not(scraper: Scraper):
    """Of the relation with few heads and tails, most are known."""
    world = load("world")
    triples = world.splits["training"]
    relation = world.relation_to_id["part_of_continent"]
    head, _, tail = triples[triples[:, 1] == relation][0].tolist()
    page = draw(
        scraper, head=head, relation=relation, tail=tail, kind="pseudotyped", filter="mask", k=20
    )
    shown = np.array([triple for triple, _ in page.negatives])
    is_known = world.contains(shown, tuple(world.columns))
    assert 0 < is_known.sum() < 20
    assert [is_struck for _, is_struck in page.negatives] == is_known.tolist()
    page = draw(scraper, head=head, relation=relation, tail=tail, filter="exact", k=20)
    assert not any(is_struck for _, is_struck in page.negatives)


def test_a_mistyped_label_is_refused_with_one_that_exists(scraper: Scraper):
    page = draw(scraper, head="Kroatia", relation="shares_border_with", tail="Hungary")
    assert page.status == 400
    assert "there is no entity 'Kroatia'" in page.text
    page = draw(scraper, head="Croatai", relation="shares_border_with", tail="Hungary")
    assert "did you mean 'Croatia'?" in page.text
    page = draw(scraper, head="Croatia", relation="share_border_with", tail="Hungary")
    assert "did you mean 'shares_border_with'?" in page.text
    assert draw(scraper, dataset="wordl").status == 404


def test_an_example_is_there_to_begin_with(scraper: Scraper):
    page = draw(scraper)
    assert page.status == 200
    form = {each["name"]: each["value"] for tag, each in page.tags if tag == "input"}
    assert draw(scraper, **form).text.count("a known triple") == 1


def test_hostile_labels_are_text(scraper: Scraper):
    asked = draw(scraper, dataset="hostile", head=SCRIPT, relation=IMAGE, tail="&amp;", k=20)
    assert asked.status == 200
    refused = draw(scraper, dataset="hostile", head=SCRIPT * 2, relation=IMAGE, tail="&amp;")
    assert refused.status == 400
    unknown = draw(scraper, dataset=SCRIPT)
    for page in (asked, refused, unknown):
        assert SCRIPT in page.text
        elements = {tag for tag, _ in page.tags}
        assert not elements & {"script", "img"}
        assert not [each for _, attributes in page.tags for each in attributes if each[:2] == "on"]
    assert IMAGE in asked.text
    assert "&amp; #" in asked.text
    assert REORDERED not in asked.text
    assert "b\\u202ec" in asked.text


@pytest.mark.parametrize(
    ("fields", "status", "why"),
    [
        ({"k": 21}, 400, "from 1 to 20"),
        ({"k": 0}, 400, "from 1 to 20"),
        ({"seed": 2**64}, 400, f"from 0 to {2**64 - 1}"),
        ({"position": "-1"}, 400, f"from 0 to {2**64 - 1}"),
        ({"position": 2**64 - 1}, 200, ""),
        ({"kind": "mixture"}, 400, "kind is 'mixture'; give basic"),
        ({"filter": "none"}, 400, "filter is 'none'; give exact, mask"),
        ({"tail": ""}, 400, "there is no tail"),
        ({"tail": 10**6}, 400, "which are 0 to 2570"),
        ({"other": 1}, 400, "there is no field 'other'"),
        ({"tail": "x" * 5000}, 414, "the limit is 4096"),
    ],
)
def test_what_a_visitor_may_ask_for_is_bounded(
    scraper: Scraper, fields: dict[str, object], status: int, why: str
):
    page = draw(scraper, **{"head": 0, "relation": 0, "tail": 1, **fields})
    assert (page.status, why in page.text) == (status, True), page.text


@pytest.mark.parametrize(
    ("query", "why"), [("k=1&k=2", "k is given twice"), ("head=%ff", "not UTF-8")]
)
def test_queries_that_no_form_sends_are_refused(scraper: Scraper, query: str, why: str):
    page = open_page(scraper.url, f"/playground?{query}")
    assert (page.status, why in page.text) == (400, True)


def test_visitors_draw_a_few_times_a_second():
    turns = DrawingTurns()
    for _ in range(int(MOST_AT_ONCE)):
        turns.run(lambda: None)
    with pytest.raises(RefusedRequest, match="the limit is 2 times a second") as refused:
        for _ in range(100):
            turns.run(lambda: None)
    assert refused.value.status.startswith("429")


def test_one_visitor_draws_at_a_time_and_what_takes_long_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing_turns, "_WORK_SECONDS", 0.05)
    monkeypatch.setattr(drawing_turns, "_QUEUE_SECONDS", 0.05)
    turns = DrawingTurns()
    may_end, has_ended = threading.Event(), threading.Event()

    def work() -> None:
        assert may_end.wait(60)
        has_ended.set()

    with pytest.raises(RefusedRequest, match="they are still being made"):
        turns.run(work)
    with pytest.raises(RefusedRequest, match="another drawing is under way"):
        turns.run(lambda: None)
    may_end.set()
    assert has_ended.wait(60)
    monkeypatch.setattr(drawing_turns, "_WORK_SECONDS", 60)
    monkeypatch.setattr(drawing_turns, "_QUEUE_SECONDS", 60)
    assert turns.run(lambda: 5) == 5
