"""How well sampled ranks estimate the metrics of the full ranking: coverage of their intervals.

Trains small PyKEEN models, ranks all queries of the test split fully once, and then draws pinned
candidate sets with 200 seeds, each with an audit of its own. Prints for each model how often the
interval of 95 % contained the metric of the full ranking, and how wide it was.

    python -m benchmarks.sampled_ranks --graph umls --graph codex-s
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from pykeen.models import model_resolver
from pykeen.training import training_loop_resolver
from pykeen.triples import CoreTriplesFactory

from benchmarks.measuring import RESULTS
from negserve import SamplerConfig
from negserve.evaluation import EvaluationSet, SampledRanks, audit_rows, count_possible
from negserve_server.graph import TriplesFactory

DATA = Path(os.environ.get("NEGSERVE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SPLITS: Any = ("training", "validation", "testing")
SIDES: Any = ("head", "tail")
#: Names in PyKEEN, and how they are trained for some seconds to a usual quality.
MODELS: dict[str, dict[str, Any]] = {
    "TransE": {},
    "DistMult": {},
    "ComplEx": {},
    "RotatE": {},
    "TuckER": {"embedding_dim": 32},
}


class Ranked:
    """A model's scores of all test queries, and their full ranks.

    :ivar scores: by side, float32, shape (m, num_entities)
    :ivar possible: by side, candidates of the full ranking, shape (m,)
    :ivar ranks: by side, realistic filtered ranks, shape (m,)
    """

    def __init__(self, graph: TriplesFactory, model: Any) -> None:
        self.positives = graph.splits["testing"]
        self.scores: dict[str, NDArray[np.float32]] = {}
        self.ranks: dict[str, NDArray[np.float64]] = {}
        self.possible = {side: count_possible(graph, self.positives, side) for side in SIDES}
        rows = torch.from_numpy(self.positives.copy())
        model.eval()
        for side, column, kept in (("head", 0, [1, 2]), ("tail", 2, [0, 1])):
            parts, ranks = [], []
            for batch in torch.split(rows, 256):
                with torch.inference_mode():
                    call = model.score_t if side == "tail" else model.score_h
                    scores = call(batch[:, kept]).numpy()
                known = graph.known(batch[:, kept].numpy(), side, SPLITS)  # type: ignore[arg-type]
                target = scores[np.arange(len(batch)), batch[:, column]][:, None]
                filtered = scores.copy()
                filtered[known.rows(), known.values] = -np.inf
                ranks.append(
                    1 + (filtered > target).sum(axis=1) + (filtered == target).sum(axis=1) / 2
                )
                parts.append(scores)
            self.scores[side] = np.concatenate(parts)
            self.ranks[side] = np.concatenate(ranks)


def trained(graph: TriplesFactory, name: str, epochs: int, loop: str) -> Any:
    """Train a model on the training triples."""
    triples = CoreTriplesFactory(
        torch.from_numpy(graph.mapped_triples.copy()),
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
    )
    options = {"embedding_dim": 64, **MODELS[name]}
    model = model_resolver.make(name, options, triples_factory=triples, random_seed=0)
    training_loop_resolver.make(
        loop,
        model=model,
        triples_factory=triples,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
    ).train(triples, num_epochs=epochs, batch_size=512, use_tqdm=False)
    return model


def sampled(graph: TriplesFactory, ranked: Ranked, k: int, seed: int, kind: Any) -> SampledRanks:
    """Draw candidates for all queries, heads first, and count those above."""
    config = SamplerConfig(
        kind=kind, num_negs_per_pos=k, filter_splits=SPLITS, distinct=True, seed=seed
    )
    parts = []
    drawn = EvaluationSet.create(graph, config, split="testing")
    for batch in drawn.batches(graph, batch_size=4096):
        at = slice(batch.row, batch.row + len(batch))
        scores = ranked.scores[batch.side][at]
        parts.append(
            SampledRanks.of_scores(
                np.take_along_axis(scores, batch.targets[:, None], 1)[:, 0],
                np.take_along_axis(scores, batch.candidates.astype(np.int64), 1),
                batch.mask,
                ranked.possible[batch.side][at],
            )
        )
    names = ("num_above", "num_tied", "num_sampled", "num_possible")
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return SampledRanks(*joined)


def coverage(
    graph: TriplesFactory, ranked: Ranked, k: int, audited: int, draws: int, kind: Any
) -> dict[str, Any]:
    """Draw again and again, and count how often the intervals contain the truth."""
    ranks = np.concatenate([ranked.ranks["head"], ranked.ranks["tail"]])
    truth = {"mrr": float((1 / ranks).mean()), "mean rank": float(ranks.mean())}
    truth |= {f"hits@{at}": float((ranks <= at).mean()) for at in (1, 10)}
    hits = dict.fromkeys(truth, 0)
    widths: dict[str, list[float]] = {name: [] for name in truth}
    errors: dict[str, list[float]] = {name: [] for name in truth}
    for seed in range(draws):
        drawn = sampled(graph, ranked, k, seed, kind)
        rows = audit_rows(len(ranks), audited, seed)
        estimates = dict(drawn.audited(rows, ranks[rows], hits=(1, 10)))
        estimates["mean rank"] = drawn.mean_rank()
        for name, estimate in estimates.items():
            hits[name] += estimate.low <= truth[name] <= estimate.high
            widths[name].append((estimate.high - estimate.low) / 2)
            errors[name].append(estimate.value - truth[name])
    return {
        name: {
            "truth": round(truth[name], 4),
            "covered": int(hits[name]),
            "half_width": round(float(np.mean(widths[name])), 4),
            "bias": round(float(np.mean(errors[name])), 4),
            "deviation": round(float(np.std(errors[name])), 4),
        }
        for name in truth
    }


@click.command(help=__doc__)
@click.option("--graph", "graphs", multiple=True, default=["umls", "codex-s"])
@click.option("--model", "models", multiple=True, default=list(MODELS))
@click.option("--epochs", default=20)
@click.option("--loop", default="sLCWA", help="PyKEEN's training loop.")
@click.option("--share", default=0.1, help="Candidates of a query, as a share of all entities.")
@click.option("--audit", default=0.05, help="Audited queries, as a share; at least 100.")
@click.option("--draws", default=200)
@click.option("--kind", default="basic", help="Kind of sampler that draws the candidates.")
@click.option("--save", is_flag=True, help="Write benchmarks/results/sampled_ranks.json.")
def main(
    graphs: tuple[str, ...],
    models: tuple[str, ...],
    epochs: int,
    loop: str,
    share: float,
    audit: float,
    draws: int,
    kind: str,
    save: bool,
) -> None:
    """Print the coverage for each graph and model."""
    rows = []
    for graph_name in graphs:
        graph = TriplesFactory.from_path(DATA / graph_name)
        for name in models:
            begin = time.perf_counter()
            ranked = Ranked(graph, trained(graph, name, epochs, loop))
            num_queries = 2 * len(ranked.positives)
            k = max(2, round(share * graph.num_entities))
            audited = max(100, round(audit * num_queries))
            facts = {
                "graph": graph_name,
                "model": name,
                "kind": kind,
                "queries": num_queries,
                "candidates": k,
                "audited": audited,
                "draws": draws,
            }
            found = coverage(graph, ranked, k, audited, draws, kind)
            click.echo(json.dumps(facts | {"seconds": round(time.perf_counter() - begin)}))
            for metric, row in found.items():
                click.echo(f"    {metric:<10} {json.dumps(row)}")
                rows.append({**facts, "metric": metric, **row})
    if save:
        (RESULTS / "sampled_ranks.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
