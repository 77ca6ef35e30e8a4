"""How well samples estimate the metrics of the full ranking: coverage of their intervals.

Trains small models (reciprocal relations, shared uniform negatives), ranks all queries of the test
split fully once, and estimates the metrics 200 times, each with random numbers of its own, from

- ``uniform``: candidates of each query, drawn uniformly (the numbers of those above are drawn from
  their law, the hypergeometric one), and an audit of fully ranked queries: ``SampledRanks``;
- ``guided``: the first candidates of a guide, and ever fewer queries that go on: ``GuidedRanks``.
  The guide is one for all draws, which choose the queries.

A share of the candidates counts all that are scored: pilots, landmarks and audits included.

    python -m benchmarks.sampled_ranks --save
    python -m benchmarks.sampled_ranks --graph fb15k-237 --share 0.01 --epochs 8
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.support.measuring import console, write
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


@dataclass(frozen=True)
class Plan:
    """How a budget is spent.

    :ivar num_pilots: queries that are scored with all entities, for the guide
    :ivar num_landmarks: entities that are scored for all queries
    :ivar depths: candidates of each stage, landmarks included
    :ivar counts: queries that go on from each
    """

    num_pilots: int
    num_landmarks: int
    depths: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, num_queries: int, num_entities: int, share: float) -> Plan:
        """Divide a budget: so much for full ranks, and of the rest most for the landmarks."""
        budget = share * num_queries * num_entities
        full = min(num_queries, max(100, round(0.24 * budget / num_entities)))
        rest = budget - full * num_entities
        num_pilots = max(2, round(0.27 * rest / num_entities))
        num_landmarks = max(1, round(0.58 * rest / num_queries))
        others = max(1, round(0.075 * rest / num_queries))
        depths = [num_landmarks + others]
        counts: list[int] = []
        # What rounding leaves is for the stages between.
        left = rest - num_pilots * num_entities - depths[0] * num_queries
        for times, part in ((8, 0.6), (32, 0.4)):
            depth = min(num_landmarks + times * others, num_entities)
            count = round(part * max(left, 0.0) / max(1, depth - depths[-1]))
            if depths[-1] < depth and count > full:
                counts.append(min(count, counts[-1] if counts else num_queries))
                depths.append(depth)
        return cls(num_pilots, num_landmarks, tuple(depths), (*counts, full))

    def spent(self, num_queries: int, num_entities: int) -> float:
        """Return the share of the candidates that are scored, at most: all depths are counted."""
        ends = (*self.depths, num_entities)
        rows = (num_queries, *self.counts)
        steps = np.diff([0, *ends])
        scored = self.num_pilots * num_entities + int(np.dot(rows, steps))
        return scored / (num_queries * num_entities)


class Ranked:
    """Where the true answers of all test queries stand, tails first.

    :ivar possible: candidates of the full ranking, shape (m,)
    :ivar ranks: realistic filtered ranks, shape (m,)
    :ivar guided: by plan and depth, realistic ranks among the first candidates of the guide, and
        how many more are expected above, each of shape (m,)
    """

    def __init__(self, graph: TriplesFactory, model: Model, plans: Sequence[Plan]) -> None:
        positives = graph.splits["testing"]
        m = len(positives)
        possible = [count_possible(graph, positives, side) for side in SIDES]
        self.possible = np.concatenate(possible)
        self.ranks = np.empty(2 * m)
        self.guided = {
            (plan, depth): (np.empty(2 * m), np.empty(2 * m))
            for plan in plans
            for depth in plan.depths
        }
        guides = {plan: self._guide(graph, model, plan) for plan in plans}
        for side in SIDES:
            for start in range(0, m, 512):
                batch = positives[start : start + 512]
                at = np.arange(len(batch))
                rows = at + start + (m if side == "head" else 0)
                answers = batch[:, 2 if side == "tail" else 0]
                scores = self._scores(model, batch, side)
                target = scores[at, answers]
                for plan, guide in guides.items():
                    first = guide.first(
                        batch, side, scores[:, guide.landmarks], target, plan.depths[-1], SPLITS
                    )
                    found = np.take_along_axis(scores, first.ids, 1)
                    above = (found > target[:, None]) + (found == target[:, None]) / 2
                    ranks = 1 + np.cumsum(above * first.mask, axis=1)
                    for depth in plan.depths:
                        self.guided[plan, depth][0][rows] = ranks[:, depth - 1]
                        self.guided[plan, depth][1][rows] = first.expected[:, depth - 1]
                kept = [0, 1] if side == "tail" else [1, 2]
                known = graph.known(batch[:, kept], side, SPLITS)
                scores[known.rows(), known.values] = -np.inf
                scores[at, answers] = -np.inf
                higher = (scores > target[:, None]).sum(1)
                self.ranks[rows] = 1 + higher + (scores == target[:, None]).sum(1) / 2

    def _guide(self, graph: TriplesFactory, model: Model, plan: Plan) -> CandidateGuide:
        positives = graph.splits["testing"]
        m = len(positives)
        pilots = audit_rows(2 * m, plan.num_pilots, seed=0)
        scores = [
            self._scores(model, positives[pilots[pilots < m]], "tail"),
            self._scores(model, positives[pilots[pilots >= m] - m], "head"),
        ]
        return CandidateGuide(graph, np.concatenate(scores), plan.num_landmarks)

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


def guided(ranked: Ranked, plan: Plan, seed: int) -> dict[str, Any]:
    """Estimate once from a walk."""
    walk = GuidedRanks(len(ranked.ranks), seed)
    for depth, count in zip(plan.depths, plan.counts, strict=True):
        ranks, expected = ranked.guided[plan, depth]
        walk.look(ranks[walk.rows], expected[walk.rows])
        walk.choose(count)
    return dict(walk.finish(ranked.ranks[walk.rows], hits=HITS))


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
        plans = {share: Plan.of(num_queries, graph.num_entities, share) for share in shares}
        for share, plan in plans.items():
            spent = plan.spent(num_queries, graph.num_entities)
            console.print(f"{graph_name}: {plan}, {spent:.4f} for {share}")
        for name in models:
            begin = time.perf_counter()
            ranked = Ranked(graph, trained(graph, name, epochs, seed=0), list(plans.values()))
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
                walks = [guided(ranked, plans[share], each) for each in seeds]
                rows += measured({**facts, "design": "guided"}, ranked, walks)
    show(rows)
    if save:
        write("sampled_ranks", rows)
    if output:
        write("sampled_ranks", rows, output)


if __name__ == "__main__":
    main()
