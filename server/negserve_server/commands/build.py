"""``negserve-server build``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from negserve.errors import NegserveError
from negserve.types.checks.text import printable
from negserve.types.config import SPLITS
from negserve_server.commands.command_log import start_logging
from negserve_server.errors import NegserveServerError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.grown_graph import grow
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.manifest import read_manifest
from negserve_server.graph.snapshot.snapshot_reader import open_snapshot
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.process.command import end_at_sighup
from negserve_server.process.progress import show_progress
from negserve_server.reading_options import (
    how_made,
    one_source,
    read_options,
    reading_options,
)


def _index_splits(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    for name in (name for value in values for name in value.split(",")):
        if name not in SPLITS:
            raise click.BadParameter(f"{name!r}: give some of {', '.join(SPLITS)}")
    return tuple(tuple(value.split(",")) for value in values)


@click.command()
@click.argument(
    "sources",
    type=click.Path(exists=True, path_type=Path),
    nargs=-1,
    metavar="[SOURCE]...",
)
@click.option(
    "--base",
    type=click.Path(exists=True, path_type=Path),
    help="A snapshot that grows, in place of SOURCE: its entities and relations keep their ids.",
)
@click.option(
    "--add",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="With --base: a file or folder with triples to add. Repeatable, as SOURCE.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The snapshot: a new folder."
)
@click.option(
    "--index-splits",
    callback=_index_splits,
    multiple=True,
    metavar="SPLIT,...",
    help="Store a filter index over these splits, too, such as training,validation. Repeatable.  "
    "[default: only that of training]",
)
@reading_options
def build(
    sources: tuple[Path, ...],
    base: Path | None,
    add: tuple[Path, ...],
    out: Path,
    index_splits: tuple[tuple[str, ...], ...],
    **reading: Any,
) -> None:
    """Read a graph and write it as a snapshot, which is served without being read again.

    SOURCE is a file or folder, in a format that docs/data.md lists; or give several files, named by
    their splits as train.tsv, valid.tsv and test.tsv. Without it, the snapshot is of the embedded
    graph. The snapshot is written beside
    its place and moved there when it is complete, so an interrupted build leaves nothing that
    looks like one. To serve it: negserve-server serve --dataset NAME=DIR.

    With --base OLD --add FILE, the snapshot is OLD with the triples of FILE. Entities and relations
    of OLD keep their ids, new labels get the next ones, sorted. The other options are about FILE.

    \b
    Examples:
      negserve-server build data/fb15k-237 --out fb15k-237.graph
      negserve-server build train.tsv --fractions 0.8,0.1,0.1 --out graph \\
        --index-splits training,validation,testing
      negserve-server build --base graph --add train.tsv --out graph.new
    """  # noqa: D301
    end_at_sighup()
    start_logging("info")
    begin = time.monotonic()
    if (base is None) != (not add):
        raise click.UsageError("give --base and --add together, or neither")
    if sources and add:
        raise click.UsageError("give SOURCE, or --base OLD with --add FILE")
    given = sources or add
    options = read_options(reading)
    if not given and options != ReadOptions():
        raise click.UsageError("options of reading are about SOURCE; give one")
    source, options = one_source(given, options) if given else (None, options)
    grown = None
    try:
        with show_progress(f"reading {source or 'the embedded graph'}") as work:
            if source is None:
                parts = TriplesFactory.world().parts
            elif base is None:
                parts = TriplesFactory.from_path(source, options).parts
            else:
                grown = grow(open_snapshot(base), source, options)
                parts = grown.parts
            write_snapshot(
                parts,
                out,
                index_splits=index_splits,
                made=how_made(source, options) | ({} if base is None else {"base": str(base)}),
                progress=work.advance,
            )
            manifest = read_manifest(out)
    except (NegserveError, NegserveServerError, ValueError, OSError) as error:
        raise click.ClickException(printable(str(error))) from error
    if grown is not None:
        for split, num_new in grown.num_new.items():
            click.echo(
                f"{split}: {num_new:,} triples added, {grown.num_known[split]:,} were there already"
            )
    num_triples = sum(split.num_triples for split in manifest.splits.values())
    click.echo(
        f"{out}: {num_triples:,} triples, {manifest.num_bytes:,} bytes, "
        f"{manifest.num_bytes / num_triples:.1f} a triple, {time.monotonic() - begin:.1f} s, "
        f"fingerprint {manifest.fingerprint}"
    )
