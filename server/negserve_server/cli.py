"""The command ``negserve-server``."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

from negserve.terminal.extras import needing_or_exit

with needing_or_exit("the command negserve-server", "negserve[server]"):
    import click

    from negserve_server.process.command import (
        Commands,
        end_at_sighup,
        end_in_order,
        ending_at_once,
    )
    from negserve_server.process.process_limits import check_process_limits

try:
    check_process_limits()  # before the imports that need most of it
except OSError as error:
    sys.exit(f"Error: {error}")

_reading = ending_at_once()  # this file and all that it imports, which takes a second or so
_reading.__enter__()

with needing_or_exit("the command negserve-server", "negserve[server]"):
    from negserve.errors import NegserveError
    from negserve.terminal.variables import mistyped_variables
    from negserve.types.checks.text import printable
    from negserve.types.config import MAX_NUM_NEGS_PER_POS, SLOTS, SPLITS, Split
    from negserve.types.kinds import PART_KINDS, Kind
    from negserve_server.administration.admin_commands import admin
    from negserve_server.config.command_line import click_options, server_config
    from negserve_server.errors import NegserveServerError
    from negserve_server.graph import TriplesFactory
    from negserve_server.graph.grown_graph import grow
    from negserve_server.graph.readers import ReadOptions
    from negserve_server.graph.snapshot.index_arrays import is_of_index
    from negserve_server.graph.snapshot.manifest import VERSION, is_snapshot, read_manifest
    from negserve_server.graph.snapshot.snapshot_reader import open_snapshot, verify_snapshot
    from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
    from negserve_server.listening.event_loop import ServerLoop
    from negserve_server.logs import log_handler
    from negserve_server.logs.formatters import LogFormat
    from negserve_server.logs.grpc_log import GrpcLog
    from negserve_server.logs.log_level import LogLevel
    from negserve_server.process.progress import show_progress
    from negserve_server.process.reloading import Reloading
    from negserve_server.reading_options import how_made, one_source, read_options, reading_options
    from negserve_server.report import false_negative_report
    from negserve_server.report.report_tables import report_tables
    from negserve_server.serving.server import Server
    from negserve_server.serving.workers import run_workers

#: Default number of relations in the tables of a report.
_TOP = 20
#: Seconds after which a command shows its progress.
_PATIENCE = 2.0

logger = logging.getLogger(__name__)


@click.group(
    cls=Commands, context_settings={"auto_envvar_prefix": "NEGSERVE", "show_default": True}
)
@click.version_option(package_name="negserve")
def main() -> None:
    """Serve exact, reproducible negatives of knowledge graphs over gRPC."""


@main.command(params=click_options())
def serve(**options: Any) -> None:
    """Load the graphs and answer until SIGTERM or Ctrl-C.

    Prints one line per address, "listening on ADDR", once it can answer requests.
    On SIGHUP it reads tokens, certificates and a log level in a file again, and the repository.
    Each option can also be set in the environment: NEGSERVE_SERVE_LISTEN and so on. Separate
    several addresses by spaces, several datasets (NEGSERVE_SERVE_DATASET) by colons.

    \b
    Examples:
      negserve-server serve
      negserve-server serve --dataset fb=data/fb15k-237 --dataset world --listen 127.0.0.1:7000
      negserve-server serve --listen unix:/run/negserve.sock
      negserve-server serve --repository graphs --token-file tokens.toml
      negserve-server serve --allow-publish --publish-dir /var/lib/negserve
      negserve-server serve --listen 0.0.0.0:7733 --tls-cert cert.pem --tls-key key.pem \\
        --token-file tokens
    """  # noqa: D301
    try:
        level = LogLevel(options["log_level"])
    except (NegserveError, NegserveServerError) as error:
        raise click.BadParameter(str(error), param_hint="'--log-level'") from error
    _start_logging(level.level, options["log_format"])
    reloading = Reloading()
    grpc_log = GrpcLog(level.level, options["log_format"])

    def set_level() -> None:
        log_handler.set_level(level.read())
        grpc_log.set_level(level.level)

    if level.is_in_file:
        reloading.add("log level", set_level)
    # As process 1 of a container, a program without a handler ignores SIGTERM; the server's own
    # handler comes later, with the event loop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = server_config(options)
        server = Server(config, reloading)
        if config.workers > 1:
            end_in_order()
        server.load()
        if config.workers > 1:
            sys.exit(run_workers(server, config, reloading, _announce))
        with asyncio.Runner(loop_factory=ServerLoop) as runner:
            runner.run(server.serve(_announce))
    except (NegserveError, NegserveServerError, ValueError, OSError) as error:
        raise click.ClickException(printable(str(error))) from error
    except MemoryError as error:
        raise click.ClickException(
            f"not enough memory{f': {error}' if str(error) else ''}; give the process "
            f"more, or load smaller graphs"
        ) from error


main.add_command(admin)


def _start_logging(level: str, log_format: LogFormat = "text") -> None:
    """Set up logging, and warn of misspelt environment variables."""
    log_handler.set_up(level, log_format)
    options = {
        f"NEGSERVE_{command.upper()}_{(option.name or '').upper()}"
        for command, each in main.commands.items()
        for option in each.params
        if isinstance(option, click.Option)
    }
    for warning in mistyped_variables(options, "NEGSERVE_SERVE_"):
        logger.warning("%s", warning)


def _index_splits(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    for name in (name for value in values for name in value.split(",")):
        if name not in SPLITS:
            raise click.BadParameter(f"{name!r}: give some of {', '.join(SPLITS)}")
    return tuple(tuple(value.split(",")) for value in values)


def _announce(addresses: list[str]) -> None:
    for address in addresses:
        click.echo(f"listening on {address}")
    sys.stdout.flush()


@main.command()
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
    _start_logging("info")
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


@main.command()
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
    _start_logging("info")
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
        factory = _load(path, options)
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


def _load(path: Path | None, options: ReadOptions) -> TriplesFactory:
    try:
        return TriplesFactory.world() if path is None else TriplesFactory.from_path(path, options)
    except (NegserveError, NegserveServerError, ValueError) as error:
        raise click.ClickException(printable(str(error))) from error


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=None, required=False)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(PART_KINDS),
    multiple=True,
    help="Kind of sampler. Repeatable.  [default: all that the graph supports]",
)
@click.option(
    "--split",
    "splits",
    type=click.Choice(SPLITS),
    multiple=True,
    help="A split whose triples are known. Repeatable.  [default: all of the graph]",
)
@click.option(
    "-k",
    "--num-negs-per-pos",
    type=click.IntRange(1, MAX_NUM_NEGS_PER_POS),
    default=1,
    help="Negatives per training triple, for the expected numbers.",
)
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=None,
    help="Give so many relations, those with most false negatives; 0 for all.  "
    f"[default: {_TOP}; all with --json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@reading_options
def report(
    path: Path | None,
    kinds: tuple[Kind, ...],
    splits: tuple[Split, ...],
    num_negs_per_pos: int,
    top: int | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Report how often negatives drawn without a filter are true.

    A negative that is a known triple of the graph is a false negative: it teaches a model that a
    fact is wrong. This prints how probable that is for each kind of sampler, overall and by
    relation: exact numbers, computed from counts; nothing is drawn.

    \b
    probability  that a negative is known; its positive is any training triple,
                 each as likely as the others
    head, tail   the same for negatives with the head, or the tail, replaced
    expected     false negatives of an epoch: -k negatives for each training triple
    saturated    training triples for which the kind has no candidate in any
                 slot, so that any entity is drawn

    With a filter (filter_splits) none of them is drawn. Where the numbers are small, a filter
    changes little; where they are large, a model without one learns from false negatives. A true
    fact that is in no split is not known and not counted.

    PATH is a file or folder, in a format that docs/data.md lists; without it, the embedded graph.

    \b
    Examples:
      negserve-server report
      negserve-server report data/fb15k-237 --kind bernoulli --split training -k 64
      negserve-server report data/fb15k-237 --json
    """  # noqa: D301
    end_at_sighup()
    _start_logging("info")
    begin = time.monotonic()

    def say(kind: Kind) -> None:
        if sys.stderr.isatty() and time.monotonic() - begin > _PATIENCE:
            click.echo(f"counting: {kind} ...", err=True)

    with show_progress("loading the graph"):
        factory = _load(path, read_options(reading))
    try:
        with show_progress("counting false negatives"):
            reports = false_negative_report(
                factory, kinds=kinds or None, splits=splits or None, progress=say
            )
    except (NegserveError, NegserveServerError) as error:
        raise click.ClickException(printable(str(error))) from error
    labels = factory.relations.labels() if factory.relations is not None else None
    if top is None:
        top = 0 if as_json else _TOP
    found = [one.to_dict(num_negs_per_pos, labels=labels, top=top) for one in reports.values()]
    if as_json:
        click.echo(json.dumps({"fingerprint": factory.fingerprint, "reports": found}))
        return
    for line in report_tables(found, factory.num_relations):
        click.echo(printable(line))


_reading.__exit__(None, None, None)

if __name__ == "__main__":
    main()
