"""The command ``negserve-server``."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from negserve._terminal.extras import needing_or_exit

with needing_or_exit("the command negserve-server", "negserve[server]"):
    import click

    from negserve_server.process.command import Commands, end_at_hang_up, ending_at_once
    from negserve_server.process.process_limits import check_process_limits

try:
    check_process_limits()  # before the imports that need most of it
except OSError as error:
    sys.exit(f"Error: {error}")

_reading = ending_at_once()  # this file and all that it imports, which takes a second or so
_reading.__enter__()

with needing_or_exit("the command negserve-server", "negserve[server]"):
    from negserve._terminal.variables import mistyped_variables
    from negserve.types.config import MAX_NUM_NEGS_PER_POS, SLOTS, SPLITS, Split
    from negserve.types.kinds import PART_KINDS, Kind
    from negserve.types.text import printable
    from negserve_server.app import Server
    from negserve_server.byte_size import Bytes
    from negserve_server.config import DEFAULT_LISTEN, WORLD, ServerConfig
    from negserve_server.errors import NegserveServerError
    from negserve_server.graph import TriplesFactory
    from negserve_server.process import logs
    from negserve_server.process.grpc_lines import GrpcLines
    from negserve_server.process.logs import LEVELS, LogLevel
    from negserve_server.process.progress import saying
    from negserve_server.process.reloading import Reloading
    from negserve_server.report import false_negative_report
    from negserve_server.report.report_tables import report_tables
    from negserve_server.service import Limits
    from negserve_server.tables import default_table_bytes

_DEFAULTS = Limits()
#: Relations in the tables of a report, unless told otherwise.
_TOP = 20
#: Seconds after which a command that is still at work says what it does.
_PATIENCE = 2.0

logger = logging.getLogger(__name__)


class _DatasetOption(click.ParamType[tuple[str, Path | None]]):
    name = "NAME=PATH"
    envvar_list_splitter = os.pathsep

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path | None]:
        text = str(value)
        if text == WORLD:
            return WORLD, None
        name, separator, path = text.partition("=")
        if not separator or not name or not path:
            self.fail(f"{text!r}: give NAME=PATH, or {WORLD} for the embedded graph", param, ctx)
        return name, Path(path)


@click.group(
    cls=Commands, context_settings={"auto_envvar_prefix": "NEGSERVE", "show_default": True}
)
@click.version_option(package_name="negserve")
def main() -> None:
    """Serve exact, reproducible negatives of knowledge graphs over gRPC."""


@main.command()
@click.option(
    "--dataset",
    type=_DatasetOption(),
    multiple=True,
    default=[WORLD],
    help="A graph to serve: a file of head<TAB>relation<TAB>tail lines, or a folder with "
    "train.txt, valid.txt and test.txt (.txt or .tsv, plain or .gz). Repeatable. "
    f"'{WORLD}' is the graph that is shipped along.",
)
@click.option(
    "--listen",
    multiple=True,
    default=[DEFAULT_LISTEN],
    metavar="ADDR",
    help="HOST:PORT (port 0 takes a free one) or unix:PATH. Repeatable.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=None,
    help="Threads that draw negatives.  [default: the number of cores]",
)
@click.option(
    "--max-streams",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_streams,
    help="Most open streams. For one more a stream gives way that was silent for 10 seconds; if "
    "there is none, it is refused.",
)
@click.option(
    "--max-streams-per-connection",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_streams_per_connection,
    help="Most of those of one connection: a client process has one, a proxy one for many. All "
    "unix sockets together count as one.",
)
@click.option(
    "--max-streams-per-token",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_streams_per_token,
    help="Most of those with one token of --token-file.",
)
@click.option(
    "--max-negatives-per-positive",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_negatives_per_positive,
    help="Largest k.",
)
@click.option(
    "--max-negatives-per-message",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_negatives_per_message,
    help="Largest batch times k of one message. Above the default, answers may pass the 4 MiB "
    "that gRPC clients take unless told otherwise.",
)
@click.option(
    "--max-table-bytes",
    type=Bytes(lowest=2**20),
    default=None,
    help="Most memory of the tables that configurations need besides the graphs, as 2GiB. Those "
    "that no stream uses give way; what has no room even so is refused.  [default: a quarter of "
    "the memory]",
)
@click.option(
    "--table-keep-seconds",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.table_keep_seconds,
    help="How long a table stays after its last stream.",
)
@click.option(
    "--max-ahead-bytes",
    type=Bytes(lowest=0),
    default=_DEFAULTS.max_ahead_bytes,
    help="Most bytes of answers that are made before their clients take them, of all streams "
    "together.",
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.idle_timeout,
    help="Seconds after which a stream without messages is ended.",
)
@click.option(
    "--max-stream-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.max_stream_seconds,
    help="Seconds after which a stream of an epoch is ended in order. Clients open it again where "
    "it was, and a balancer in between can move it to another replica.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    help="How long answers under way may take after SIGTERM.",
)
@click.option(
    "--allow-publish",
    is_flag=True,
    help="Let clients publish graphs that they hold; without --token-file, whoever reaches the "
    "port can.",
)
@click.option(
    "--publish-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Keep published graphs in this folder, and serve those that are there. Without it they "
    "are forgotten when the server ends.",
)
@click.option(
    "--upload-idle-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.upload_idle_timeout,
    help="Seconds after which an upload without messages is ended, as others may wait for it.",
)
@click.option(
    "--max-publish-triples",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_publish_triples,
    help="Most triples of all published graphs together; each takes some 400 bytes of memory.",
)
@click.option(
    "--max-publish-ids",
    type=click.IntRange(min=2),
    default=_DEFAULTS.max_publish_ids,
    help="Largest id space of all published graphs together, entities and relations.",
)
@click.option(
    "--max-publish-graphs",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_publish_graphs,
    help="Most published graphs.",
)
@click.option(
    "--publish-keep-seconds",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.publish_keep_seconds,
    help="How long no stream may have been about a published graph "
    "before it gives way to another one that needs the room; the one idle for the longest first.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    default=None,
    help="Answer only calls that bear one of the tokens in this file, one a line. Its changes "
    "count without a restart. Health checks need none.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    default=None,
    help="Speak TLS at the TCP addresses, with this certificate (PEM, with its chain).",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path),
    default=None,
    help="Its private key (PEM, not encrypted).",
)
@click.option(
    "--tls-client-ca",
    type=click.Path(path_type=Path),
    default=None,
    help="Answer only clients with a certificate of one of these authorities (PEM).",
)
@click.option(
    "--log-level",
    default="info",
    metavar="LEVEL|FILE",
    help=f"Least severe messages to log, to standard error: {', '.join(LEVELS)}; or a file that "
    "holds one of these, and is read again at SIGHUP.",
)
def serve(
    dataset: tuple[tuple[str, Path | None], ...],
    listen: tuple[str, ...],
    threads: int | None,
    max_streams: int,
    max_streams_per_connection: int,
    max_streams_per_token: int,
    max_negatives_per_positive: int,
    max_negatives_per_message: int,
    max_table_bytes: int | None,
    table_keep_seconds: float,
    max_ahead_bytes: int,
    idle_timeout: float,
    max_stream_seconds: float,
    drain_seconds: float,
    allow_publish: bool,
    publish_dir: Path | None,
    upload_idle_timeout: float,
    max_publish_triples: int,
    max_publish_ids: int,
    max_publish_graphs: int,
    publish_keep_seconds: float,
    token_file: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    log_level: str,
) -> None:
    """Load the graphs and answer until SIGTERM or Ctrl-C.

    Prints one line per address, "listening on ADDR", once the first request can be answered.
    SIGHUP has it read tokens, certificates and a log level in a file again.
    Each option can also be given in the environment: NEGSERVE_SERVE_LISTEN and so on; several
    addresses separated by spaces, several datasets (NEGSERVE_SERVE_DATASET) by colons.

    \b
    Examples:
      negserve-server serve
      negserve-server serve --dataset fb=data/fb15k-237 --dataset world --listen 0.0.0.0:7733
      negserve-server serve --listen unix:/run/negserve.sock
      negserve-server serve --allow-publish --publish-dir /var/lib/negserve
      negserve-server serve --listen 0.0.0.0:7733 --tls-cert cert.pem --tls-key key.pem \\
        --token-file tokens
    """  # noqa: D301
    try:
        level = LogLevel(log_level)
    except NegserveServerError as error:
        raise click.BadParameter(str(error), param_hint="'--log-level'") from error
    _begin(level.level)
    reloading = Reloading()
    grpc_lines = GrpcLines(level.level)

    def set_level() -> None:
        logs.set_level(level.read())
        grpc_lines.set_level(level.level)

    if level.is_in_file:
        reloading.add("log level", set_level)
    if len({name for name, _ in dataset}) < len(dataset):
        raise click.UsageError("two datasets of one name; give each its own")
    # As process 1 of a container, a program without a handler ignores SIGTERM; the server's own
    # handler comes later, with the event loop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = ServerConfig(
            datasets=dict(dataset),
            listen=listen,
            limits=Limits(
                max_negatives_per_positive=max_negatives_per_positive,
                max_negatives_per_message=max_negatives_per_message,
                max_table_bytes=max_table_bytes or default_table_bytes(),
                table_keep_seconds=table_keep_seconds,
                max_streams=max_streams,
                max_streams_per_connection=max_streams_per_connection,
                max_streams_per_token=max_streams_per_token,
                max_ahead_bytes=max_ahead_bytes,
                idle_timeout=idle_timeout,
                max_stream_seconds=max_stream_seconds,
                upload_idle_timeout=upload_idle_timeout,
                max_publish_triples=max_publish_triples,
                max_publish_ids=max_publish_ids,
                max_publish_graphs=max_publish_graphs,
                publish_keep_seconds=publish_keep_seconds,
            ),
            drain_seconds=drain_seconds,
            allow_publish=allow_publish,
            publish_dir=publish_dir,
            token_file=token_file,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            **({"threads": threads} if threads else {}),
        )
        server = Server(config, reloading)
        server.load()
        asyncio.run(server.serve(_announce))
    except (NegserveServerError, ValueError, OSError) as error:
        raise click.ClickException(printable(str(error))) from error
    except MemoryError as error:
        raise click.ClickException(
            f"the memory does not suffice{f': {error}' if str(error) else ''}; give the process "
            f"more, or load smaller graphs"
        ) from error


def _begin(level: str) -> None:
    """Let a command log, and say what it will not take notice of."""
    logs.set_up(level)
    options = {
        f"NEGSERVE_{command.upper()}_{(option.name or '').upper()}"
        for command, each in main.commands.items()
        for option in each.params
        if isinstance(option, click.Option)
    }
    for warning in mistyped_variables(options, "NEGSERVE_SERVE_"):
        logger.warning("%s", warning)


def _announce(addresses: list[str]) -> None:
    for address in addresses:
        click.echo(f"listening on {address}")
    sys.stdout.flush()


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=None, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(path: Path | None, as_json: bool) -> None:
    """Load a graph and print its counts and fingerprint.

    PATH is what --dataset of `serve` takes; without it, the embedded graph.
    """
    end_at_hang_up()
    _begin("info")
    with saying("loading the graph"):
        factory = _load(path)
    with saying("building its index"):
        index = factory.filter_index(tuple(factory.splits))
        directions = [index.by_slot(slot) for slot in SLOTS]
    facts: dict[str, object] = {
        "num_entities": factory.num_entities,
        "num_relations": factory.num_relations,
        **{f"num_{split}": len(triples) for split, triples in factory.splits.items()},
        **{f"num_unseen_{split}": count for split, count in factory.num_unseen.items() if count},
        **_type_constraint_facts(factory),
        "index_bytes": index.triples.nbytes + sum(each.nbytes for each in directions),
        "fingerprint": factory.fingerprint,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name:<24} {value:>16,}" if isinstance(value, int) else f"{name:<24} {value}")


def _type_constraint_facts(factory: TriplesFactory) -> dict[str, int]:
    """Count what the graph has of type constraints; nothing for a graph without any."""
    constraints = factory.type_constraints
    if constraints is None:
        return {}
    unseen = constraints.num_unseen
    return {
        "num_constrained_slots": constraints.num_constrained_slots,
        **({"num_unseen_constraints": unseen} if unseen else {}),
    }


def _load(path: Path | None) -> TriplesFactory:
    try:
        return TriplesFactory.world() if path is None else TriplesFactory.from_path(path)
    except (NegserveServerError, ValueError) as error:
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
def report(
    path: Path | None,
    kinds: tuple[Kind, ...],
    splits: tuple[Split, ...],
    num_negs_per_pos: int,
    top: int | None,
    as_json: bool,
) -> None:
    """Tell how often negatives drawn without a filter are true.

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

    PATH is what --dataset of `serve` takes; without it, the embedded graph.

    \b
    Examples:
      negserve-server report
      negserve-server report data/fb15k-237 --kind bernoulli --split training -k 64
      negserve-server report data/fb15k-237 --json
    """  # noqa: D301
    end_at_hang_up()
    _begin("info")
    begin = time.monotonic()

    def say(kind: Kind) -> None:
        if sys.stderr.isatty() and time.monotonic() - begin > _PATIENCE:
            click.echo(f"counting: {kind} ...", err=True)

    with saying("loading the graph"):
        factory = _load(path)
    try:
        with saying("counting false negatives"):
            reports = false_negative_report(
                factory, kinds=kinds or None, splits=splits or None, progress=say
            )
    except NegserveServerError as error:
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
