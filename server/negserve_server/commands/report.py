"""``negserve-server report``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from negserve.errors import NegserveError
from negserve.types.checks.text import printable
from negserve.types.config import MAX_NUM_NEGS_PER_POS, SPLITS, Split
from negserve.types.kinds import PART_KINDS, Kind
from negserve_server.commands.command_log import start_logging
from negserve_server.commands.given_graph import load_graph
from negserve_server.errors import NegserveServerError
from negserve_server.process.command import end_at_sighup
from negserve_server.process.progress import show_progress
from negserve_server.reading_options import read_options, reading_options
from negserve_server.report import false_negative_report
from negserve_server.report.report_tables import report_tables

#: Default number of relations in the tables.
_TOP = 20
#: Seconds after which it shows its progress.
_PATIENCE = 2.0


@click.command()
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
    start_logging("info")
    begin = time.monotonic()

    def say(kind: Kind) -> None:
        if sys.stderr.isatty() and time.monotonic() - begin > _PATIENCE:
            click.echo(f"counting: {kind} ...", err=True)

    with show_progress("loading the graph"):
        factory = load_graph(path, read_options(reading))
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
