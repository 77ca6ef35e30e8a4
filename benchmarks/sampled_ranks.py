"""How well samples estimate the metrics of the full ranking: coverage of their intervals.

Trains small models (reciprocal relations, shared uniform negatives), ranks all queries of the test
split fully once, and estimates the metrics 200 times, each with random numbers of its own, from

- ``uniform``: candidates of each query, drawn uniformly (the numbers of those above are drawn from
  their law, the hypergeometric one), and an audit of fully ranked queries: ``SampledRanks``;
- ``guided``: the first candidates of a guide, and ever fewer queries that go on: ``GuidedRanks``.

A share of the candidates counts all that are scored, audits included.

    python -m benchmarks.sampled_ranks --save
    python -m benchmarks.sampled_ranks --graph fb15k-237 --model ComplEx --share 0.01 --epochs 8
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.measuring import console, write
from negserve.evaluation import (
    CandidateGuide,
    GuidedRanks,
    SampledRanks,
    audit_rows,
    count_possible,
)
from negserve_server.graph import TriplesFactory

DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SPLITS: Any = ("training", "validation", "testing")
SIDES: Any = ("tail", "head")
MODELS = ("DistMult", "ComplEx", "TransE", "RotatE", "SimplE")
HITS = (1, 10)
METRICS = ("mrr", "hits@1", "hits@10")
#: Half of the numbers of an embedding.
HALF = 32
NEGATIVES = 512

Ints = NDArray[np.int64]


class Model(torch.nn.Module):
    """A model that scores all tails of (head, relation), heads as tails of the inverse."""

    def __init__(self, name: str, num_entities: int, num_relations: int) -> None:
        super().__init__()
        self.name, self.num_relations = name, num_relations
        self.entities = torch.nn.Embedding(num_entities, 2 * HALF)
        self.relations = torch.nn.Embedding(2 * num_relations, 2 * HALF)
        for table in (self.entities, self.relations):
            torch.nn.init.normal_(table.weight, std=0.1)

    def query(self, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """Embed what is asked, shape (m, 2 * HALF)."""
        head, relation = self.entities(heads), self.relations(relations)
        if self.name in ("DistMult", "TransE"):
            query: torch.Tensor = head * relation if self.name == "DistMult" else head + relation
            return query
        (a, b), (c, d) = head.chunk(2, -1), relation.chunk(2, -1)
        if self.name == "SimplE":
            return torch.cat([b * d, a * c], -1)
        if self.name == "RotatE":
            c, d = torch.cos(c * 10), torch.sin(c * 10)
        return torch.cat([a * c - b * d, a * d + b * c], -1)

    def score(self, query: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        """Score tails, shape (n, 2 * HALF), for each query, shape (m, n)."""
        if self.name in ("TransE", "RotatE"):
            return -4 * torch.cdist(query, tails)
        return query @ tails.T


def trained(graph: TriplesFactory, name: str, epochs: int, seed: int) -> Model:
    """Train with softmax cross-entropy against shared negatives."""
    torch.manual_seed(seed)
    model = Model(name, graph.num_entities, graph.num_relations)
    triples = torch.from_numpy(graph.mapped_triples.copy())
    inverse = triples[:, [2, 1, 0]] + torch.tensor([0, graph.num_relations, 0])
    rows = torch.cat([triples, inverse])
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for batch in torch.split(rows[torch.randperm(len(rows))], 1000):
            heads, relations, tails = batch.T
            negatives = torch.randperm(graph.num_entities)[:NEGATIVES]
            query = model.query(heads, relations)
            candidates = torch.cat([tails, negatives])
            others = model.score(query, model.entities(negatives))
            target = model.entities(tails)
            if model.name in ("TransE", "RotatE"):
                true = -4 * torch.linalg.vector_norm(query - target, dim=1)
            else:
                true = (query * target).sum(1)
            others = others.masked_fill(tails[:, None] == candidates[len(tails) :], -torch.inf)
            loss = (torch.logsumexp(torch.cat([true[:, None], others], 1), 1) - true).mean()
            penalty = 1e-2 * ((query.abs() ** 3).sum() + (target.abs() ** 3).sum()) / len(batch)
            optimizer.zero_grad()
            (loss + penalty).backward()
            optimizer.step()
    return model


class Ranked:
    """Where the true answers of all test queries stand, tails first.

    :ivar possible: candidates of the full ranking, shape (m,)
    :ivar ranks: realistic filtered ranks, shape (m,)
    :ivar guided: by depth, realistic ranks among the first candidates of the guide, shape (m,)
    :ivar has_more: by depth, whether training shows more candidates, shape (m,)
    """

    def __init__(self, graph: TriplesFactory, model: Model, depths: tuple[int, ...]) -> None:
        positives = graph.splits["testing"]
        guide = CandidateGuide(graph, graph.mapped_triples)
        possible = [count_possible(graph, positives, side) for side in SIDES]
        self.possible = np.concatenate(possible)
        ranks = []
        guided: dict[int, list[Any]] = {depth: [] for depth in depths}
        has_more: dict[int, list[Any]] = {depth: [] for depth in depths}
        for side in SIDES:
            for start in range(0, len(positives), 512):
                batch = positives[start : start + 512]
                at = np.arange(len(batch))
                scores = self._scores(model, batch, side)
                target = scores[at, batch[:, 2 if side == "tail" else 0]][:, None]
                ids, mask = guide.first(batch, side, depths[-1], SPLITS)
                found = np.take_along_axis(scores, ids, 1)
                above = ((found > target) + (found == target) / 2) * mask
                seen = guide.count_seen(batch, side, SPLITS)
                for depth in depths:
                    guided[depth].append(1 + above[:, :depth].sum(1))
                    has_more[depth].append(seen > depth)
                kept = [0, 1] if side == "tail" else [1, 2]
                known = graph.known(batch[:, kept], side, SPLITS)
                scores[known.rows(), known.values] = -np.inf
                scores[at, batch[:, 2 if side == "tail" else 0]] = -np.inf
                ranks.append(1 + (scores > target).sum(1) + (scores == target).sum(1) / 2)
        self.ranks = np.concatenate(ranks)
        self.guided = {depth: np.concatenate(parts) for depth, parts in guided.items()}
        self.has_more = {depth: np.concatenate(parts) for depth, parts in has_more.items()}

    @staticmethod
    def _scores(model: Model, batch: Ints, side: str) -> NDArray[np.float32]:
        heads, relations, tails = torch.from_numpy(batch.copy()).T
        if side == "head":
            heads, relations = tails, relations + model.num_relations
        with torch.inference_mode():
            query = model.query(heads, relations)
            scores: NDArray[np.float32] = model.score(query, model.entities.weight).numpy()
        return scores


def uniform(ranked: Ranked, k: int, audited: int, seed: int) -> dict[str, Any]:
    """Estimate once from uniform candidates and an audit."""
    rng = np.random.default_rng(seed)
    above = np.floor(ranked.ranks - 1).astype(np.int64)
    sampled = np.minimum(k, ranked.possible)
    found = rng.hypergeometric(above, ranked.possible - above, sampled)
    drawn = SampledRanks(found, np.zeros_like(found), sampled, ranked.possible)
    rows = audit_rows(len(above), audited, seed)
    return dict(drawn.audited(rows, 1.0 + above[rows], hits=HITS))


def guided(
    ranked: Ranked, depths: tuple[int, ...], counts: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """Estimate once from a walk."""
    walk = GuidedRanks(len(ranked.ranks), seed)
    for depth, count in zip(depths, counts, strict=True):
        rows = walk.rows
        walk.look(ranked.guided[depth][rows], ranked.has_more[depth][rows])
        rows = walk.choose(count)
    return dict(walk.finish(ranked.ranks[rows], hits=HITS))


def plan(
    num_queries: int, num_entities: int, share: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide a budget: depths of the guide, and how many queries go on from each.

    A fifth for all queries, and the rest for the stages after: the fewer queries, the more.
    """
    budget = share * num_queries * num_entities
    first = max(1, round(0.2 * budget / num_queries))
    depths = tuple(sorted({min(first * times, num_entities // 2) for times in (1, 5, 17, 67)}))
    steps = np.diff([*depths, num_entities])
    parts = np.array([0.11, 0.13, 0.22, 0.32])[-len(depths) :]
    wanted = np.maximum(100, parts / parts.sum() * 0.78 * budget / steps).astype(int)
    counts = np.minimum.accumulate(np.minimum(wanted, num_queries))
    return depths, tuple(int(count) for count in counts)


def measured(
    facts: dict[str, Any], ranked: Ranked, estimates: list[dict[str, Any]]
) -> list[dict[str, object]]:
    """Compare estimates with the full ranking, a row for each metric."""
    rows: list[dict[str, object]] = []
    truth = {"mrr": float((1 / ranked.ranks).mean())}
    truth |= {f"hits@{k}": float((ranked.ranks <= k).mean()) for k in HITS}
    for metric in METRICS:
        each = [estimate[metric] for estimate in estimates]
        errors = np.array([estimate.value for estimate in each]) - truth[metric]
        ends = np.array([(estimate.low, estimate.high) for estimate in each])
        inside = (ends[:, 0] <= truth[metric]) & (truth[metric] <= ends[:, 1])
        row: dict[str, object] = {
            **facts,
            "metric": metric,
            "full": truth[metric],
            "covered": int(inside.sum()),
            "half_width": float((ends[:, 1] - ends[:, 0]).mean() / 2),
            "bias": float(errors.mean()),
            "median_error": float(np.median(np.abs(errors))),
            "error_95": float(np.percentile(np.abs(errors), 95)),
            "within_0.005": int((np.abs(errors) <= 0.005).sum()),
        }
        rows.append(row)
    return rows


def show(rows: list[dict[str, object]]) -> None:
    """Print rows as a table."""
    columns = [key for key in rows[0] if key not in ("draws", "seed")]
    table = Table(*columns, title=f"{rows[0]['draws']} draws")
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v := row[c], float) else str(v) for c in columns))
    console.print(table)


@click.command(help=__doc__)
@click.option("--graph", "graphs", multiple=True, default=["umls", "codex-s"])
@click.option("--model", "models", multiple=True, default=list(MODELS))
@click.option("--epochs", default=20)
@click.option("--share", "shares", multiple=True, type=float, default=[0.15])
@click.option("--draws", default=200)
@click.option("--seed", default=0, help="Of the first draw.")
@click.option("--save", is_flag=True, help="Write benchmarks/results/sampled_ranks.json.")
@click.option("--output", type=click.Path(path_type=Path), help="Write this file as well.")
def main(
    graphs: tuple[str, ...],
    models: tuple[str, ...],
    epochs: int,
    shares: tuple[float, ...],
    draws: int,
    seed: int,
    save: bool,
    output: Path | None,
) -> None:
    """Print the coverage for each graph and model."""
    torch.set_num_threads(1)  # models are small
    rows: list[dict[str, object]] = []
    for graph_name in graphs:
        graph = TriplesFactory.from_path(DATA / graph_name)
        num_queries = 2 * len(graph.splits["testing"])
        plans = {share: plan(num_queries, graph.num_entities, share) for share in shares}
        depths = tuple(sorted({depth for each, _ in plans.values() for depth in each}))
        for name in models:
            begin = time.perf_counter()
            ranked = Ranked(graph, trained(graph, name, epochs, seed=0), depths)
            console.print(f"{graph_name} {name}: {time.perf_counter() - begin:.0f} s")
            for share in shares:
                facts = {"graph": graph_name, "model": name, "share": share, "draws": draws,
                         "seed": seed}  # fmt: skip
                seeds = range(seed, seed + draws)
                audited = max(100, round(share / 2 * num_queries))
                k = max(
                    1,
                    round(share * graph.num_entities - audited * graph.num_entities / num_queries),
                )
                drawn = [uniform(ranked, k, audited, each) for each in seeds]
                rows += measured({**facts, "design": "uniform"}, ranked, drawn)
                walks = [guided(ranked, *plans[share], each) for each in seeds]
                rows += measured({**facts, "design": "guided"}, ranked, walks)
    show(rows)
    if save:
        write("sampled_ranks", rows)
    if output:
        write("sampled_ranks", rows, output)


if __name__ == "__main__":
    main()
