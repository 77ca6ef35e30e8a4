"""``negserve-server inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from negserve.types.checks.text import printable
from negserve.types.config import SLOTS
from negserve_server.commands.command_log import start_logging
from negserve_server.commands.given_graph import load_graph
from negserve_server.errors import NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.index_arrays import is_of_index
from negserve_server.graph.snapshot.manifest import VERSION, is_snapshot, read_manifest
from negserve_server.graph.snapshot.snapshot_reader import verify_snapshot
from negserve_server.process.command import end_at_sighup
from negserve_server.process.progress import show_progress
from negserve_server.reading_options import read_options, reading_options


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=None, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verify", is_flag=True, help="Read a snapshot's checksums.")
@reading_options
def inspect(path: Path | None, as_json: bool, verify: bool, **reading: Any) -> None:
    """Load a graph and print its counts and fingerprint.

    PATH is a snapshot, or a file or folder in a format that docs/data.md lists; without it, the
    embedded graph. With --verify all arrays of a snapshot are read and compared with their
    checksums.
    """
    end_at_sighup()
    start_logging("info")
    options = read_options(reading)
    if verify and (path is None or not is_snapshot(path)):
        raise click.UsageError("--verify is for snapshots; give the folder of one")
    if verify and path is not None:
        try:
            with show_progress(f"verifying {path}") as work:
                verify_snapshot(path, work.advance)
        except NegserveServerError as error:
            raise click.ClickException(printable(str(error))) from error
    with show_progress("loading the graph"):
        factory = load_graph(path, options)
    facts: dict[str, object] = {
        "num_entities": factory.num_entities,
        "num_relations": factory.num_relations,
        **{f"num_{split}": len(triples) for split, triples in factory.columns.items()},
        **{f"num_unseen_{split}": count for split, count in factory.num_unseen.items() if count},
        **_type_constraint_facts(factory),
        **(
            _snapshot_facts(path)
            if path is not None and is_snapshot(path)
            else {"index_bytes": _index_bytes(factory)}
        ),
        "fingerprint": factory.fingerprint,
        **({"verified": True} if verify else {}),
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        is_count = isinstance(value, int) and not isinstance(value, bool)
        click.echo(f"{name:<24} {value:>16,}" if is_count else f"{name:<24} {value}")


def _index_bytes(factory: TriplesFactory) -> int:
    """Make the index of all splits, and count its bytes."""
    with show_progress("building its index"):
        index = factory.filter_index(tuple(factory.columns))
        return sum(index.by_slot(slot).nbytes for slot in SLOTS)


def _snapshot_facts(path: Path) -> dict[str, object]:
    """Say what a snapshot holds besides the graph, and how it was made."""
    manifest = read_manifest(path)
    stored = manifest.arrays.items()
    return {
        "index_bytes": sum(each.num_bytes for name, each in stored if is_of_index(name)),
        "snapshot_bytes": manifest.num_bytes,
        "snapshot_format": VERSION,
        "indexes": ", ".join(f"{'+'.join(each.splits)}.{each.slot}" for each in manifest.indexes),
        **{f"made_{name}": value for name, value in manifest.made.items()},
    }


def _type_constraint_facts(factory: TriplesFactory) -> dict[str, int]:
    """Count the type constraints of a graph; empty for a graph without any."""
    constraints = factory.type_constraints
    if constraints is None:
        return {}
    unseen = constraints.num_unseen
    return {
        "num_constrained_slots": constraints.num_constrained_slots,
        **({"num_unseen_constraints": unseen} if unseen else {}),
    }
