"""The command ``negserve-server size``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from negserve.types.kinds import PART_KINDS
from negserve_server.errors import NegserveServerError
from negserve_server.graph.snapshot.manifest import is_snapshot, read_manifest
from negserve_server.sizing.costs import CALLS, Call, Costs
from negserve_server.sizing.fleet import BUSY, Fleet, Machine, Training, size_fleet
from negserve_server.sizing.graph_size import GraphSize

_POSITIVE = click.IntRange(min=1)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option(
    "--dataset",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Snapshot that `negserve-server build` made; instead of its size by the next options.",
)
@click.option("--triples", type=_POSITIVE, help="Triples of all splits of the graph.")
@click.option("--entities", type=_POSITIVE, help="Entities of the graph.")
@click.option("--relations", type=_POSITIVE, default=1000, help="Relations of the graph.")
@click.option(
    "--directions",
    type=click.IntRange(1, 3),
    default=2,
    help="Slots that samplers replace: head and tail are two.",
)
@click.option("--ranks", type=_POSITIVE, required=True, help="Trainers at the same time.")
@click.option("--batch", type=_POSITIVE, required=True, help="Positives of a step of a rank.")
@click.option("-k", "--num-negs-per-pos", type=_POSITIVE, required=True, help="Negatives of each.")
@click.option(
    "--steps-per-second", type=_ABOVE_ZERO, default=10.0, help="Training steps of each rank."
)
@click.option("--kind", type=click.Choice(PART_KINDS), default="bernoulli", help="Kind of sampler.")
@click.option(
    "--call",
    type=click.Choice(CALLS),
    default="epoch",
    help="epoch: TripleStream, epochs(); sample: trainers with batches of their own, as PyKEEN's.",
)
@click.option("--processors", type=_ABOVE_ZERO, default=4.0, help="Processors of a replica.")
@click.option(
    "--network", type=_ABOVE_ZERO, default=10.0, help="Network of a replica, gigabits per second."
)
@click.option(
    "--spare",
    type=click.IntRange(min=0),
    default=1,
    help="Replicas beyond those that bear the load, for those that are replaced or lost.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def size(
    dataset: Path | None,
    triples: int | None,
    entities: int | None,
    relations: int,
    directions: int,
    ranks: int,
    batch: int,
    num_negs_per_pos: int,
    steps_per_second: float,
    kind: str,
    call: Call,
    processors: float,
    network: float,
    spare: int,
    as_json: bool,
) -> None:
    """Say how many replicas, processors and bytes a training needs.

    Computed from costs that were measured with this release on the machine that the last line
    names; docs/sizing.md has the formula, and how far it was off. Your processors may be faster or
    slower: `negserve bench` at your server tells.

    \b
    Examples:
      negserve-server size --dataset graphs/fb15k-237 --ranks 64 --batch 1024 -k 64
      negserve-server size --triples 338000000 --entities 86000000 --ranks 512 --batch 8192 -k 128
      negserve-server size --dataset graphs/world --ranks 8 --batch 128 -k 1 --call sample
    """  # noqa: D301
    graph = _graph(dataset, triples, entities, relations, directions)
    training = Training(ranks, batch, num_negs_per_pos, steps_per_second, kind, call)
    machine = Machine(processors, network * 1e9 / 8)
    costs = Costs.measured()
    fleet = size_fleet(graph, training, machine, costs, spare=spare)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "graph": {**asdict(graph), "resident_bytes": graph.resident_bytes},
                    "training": asdict(training),
                    "machine": asdict(machine),
                    "fleet": {**asdict(fleet), "replicas": fleet.replicas},
                    "measured_on": costs.machine,
                }
            )
        )
        return
    for name, text in _lines(graph, training, machine, costs, fleet):
        click.echo(f"{name:<12} {text}")


def _graph(
    dataset: Path | None, triples: int | None, entities: int | None, relations: int, directions: int
) -> GraphSize:
    if dataset is None:
        if triples is None or entities is None:
            raise click.UsageError("give --dataset, or --triples and --entities")
        return GraphSize(triples, entities, relations, directions)
    if triples is not None or entities is not None:
        raise click.UsageError("--dataset tells its size; leave out --triples and --entities")
    if not is_snapshot(dataset):
        raise click.UsageError(f"{dataset} is no snapshot; make one: negserve-server build")
    try:
        manifest = read_manifest(dataset)
    except NegserveServerError as error:
        raise click.ClickException(str(error)) from error
    num_triples = sum(split.num_triples for split in manifest.splits.values())
    return GraphSize(
        num_triples, manifest.num_entities, manifest.num_relations, directions, manifest.num_bytes
    )


def _lines(
    graph: GraphSize, training: Training, machine: Machine, costs: Costs, fleet: Fleet
) -> list[tuple[str, str]]:
    """Write the answer, as names and texts of lines."""
    steps = training.batches_per_second
    negatives = steps * training.batch_size * training.num_negs_per_pos
    call = costs.calls[training.call]
    table_bytes = graph.table_bytes(training.kind, training.num_negs_per_pos)
    return [
        ("replicas", f"{fleet.replicas}: {fleet.needed} for the load, {fleet.spare} to spare"),
        ("each", f"{machine.processors:g} processors, {_bytes(fleet.resident_bytes)} of memory, "
                 f"--workers {fleet.workers}"),
        ("load", f"{steps:,.0f} batches of {_bytes(fleet.bytes_per_batch)} and {negatives:,.0f} "
                 "negatives a second"),
        ("processors", f"{fleet.processors:.2f} busy, {1e3 * fleet.seconds_per_batch:.3f} ms a "
                       f"batch; planned with {BUSY:.0%} of each"),
        ("event loop", f"{steps / fleet.needed:,.0f} batches a second and replica; one worker has "
                       f"room for {BUSY / call.loop:,.0f}"),
        ("network", f"{_bytes(fleet.sent_bytes)} a second of all replicas"),
        ("graph", f"{graph.num_triples:,} triples, {_bytes(graph.resident_bytes)}; "
                  f"tables of its samplers, {_bytes(table_bytes)}"),
        ("bound by", f"{fleet.bound}; from {fleet.most_ranks + 1:,} ranks on, one replica more"),
        ("measured on", costs.machine),
    ]  # fmt: skip


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.2f} GB"
