"""The commands ``negserve evaluation-set``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from negserve._calls.client import DEFAULT_TARGET
from negserve._protocol.messages import SLOTS, SPLITS
from negserve._sync.client import Client
from negserve.errors import NegserveError
from negserve.terminal.labelled_triples import Vocabulary, parse_mixture, read_triples
from negserve.terminal.target_option import PATIENCE, target_option
from negserve.types.checks.text import printable
from negserve.types.config import SamplerConfig
from negserve.types.kinds import KINDS

# What draws and reads sets is imported by the commands: every other command would wait for it.
if TYPE_CHECKING:
    from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet

#: Interval of lines about long work, where there is no terminal.
_LINE_SECONDS = 5.0


@click.group("evaluation-set")
def evaluation_set() -> None:
    """Pin the candidates that true triples are ranked against, in a manifest of some 500 bytes.

    The manifest is the set: whoever has it and the graph draws the same candidates, on any
    machine. None of them is a known triple of the splits that filter.

    \b
    The usual way:
      negserve evaluation-set create --dataset fb15k-237 -k 100 --distinct \\
          --ids -o set.json test.tsv           pin a set, and publish set.json
      negserve evaluation-set verify set.json test.tsv --dataset fb15k-237 --ids
                                               draw it again and compare
      negserve evaluation-set export set.json test.tsv -o set.npz --dataset fb15k-237 --ids
                                               write the candidates to a file
    """  # noqa: D301


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which graph and which triples."""
    for option in (
        target_option(DEFAULT_TARGET),
        click.option("--dataset", default="world", help="Dataset of the server."),
        click.option(
            "--compute",
            type=click.Choice(["server", "client"]),
            default="server",
            help="Who draws. client needs a server with --allow-pull, and may leave out TRIPLES.",
        ),
        click.option("--ids", is_flag=True, help="TRIPLES are ids instead of labels."),
    ):
        command = option(command)
    return command


@evaluation_set.command()
@_source_options
@click.option(
    "--split",
    type=click.Choice(list(SPLITS)),
    help="With --compute client, in place of TRIPLES: a split of the dataset.",
)
@click.option("-k", "--num-candidates", "num_negs_per_pos", default=100, help="For each query.")
@click.option(
    "--side",
    "sides",
    type=click.Choice(list(SLOTS)),
    multiple=True,
    default=["head", "tail"],
    help="A slot that is asked for. Repeatable.",
)
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="basic",
    help="Kind of sampler, as of negserve sample. basic is uniform.",
)
@click.option("--alpha", default=0.75, help="With --kind degree: exponent of the frequency.")
@click.option(
    "--mixture",
    callback=parse_mixture,
    metavar="KIND=SHARES,...",
    help="With --kind mixture: kinds with shares, such as basic=1,typed=1.",
)
@click.option(
    "--filter-split",
    "filter_splits",
    type=click.Choice(list(SPLITS)),
    multiple=True,
    show_default="all of the dataset",
    help="A split whose triples are no candidates. Repeatable.",
)
@click.option(
    "--distinct", is_flag=True, help="No candidate twice for a query; sampled ranks need it."
)
@click.option("--seed", default=0, help="Key of the generator; take another than for training.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File for the manifest.",
)
@click.argument("triples", type=click.File(encoding="utf-8"), required=False)
def create(
    split: str | None,
    sides: tuple[str, ...],
    filter_splits: tuple[str, ...],
    output: Path,
    triples: Any,
    **options: Any,
) -> None:
    """Pin candidates for TRIPLES, lines head<TAB>relation<TAB>tail, and write the manifest."""
    from negserve.evaluation.candidate_sets.candidate_files import check_folder, written_aside
    from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet
    from negserve.evaluation.evaluated_graph import splits_to_filter

    source = {name: options.pop(name) for name in _SOURCE}
    with _opened(**source) as factory, _shown("drawing") as report:
        check_folder(output)
        config = SamplerConfig(
            **options,
            corruption_scheme=sides,  # type: ignore[arg-type]
            filter_splits=splits_to_filter(factory, filter_splits or None),  # type: ignore[arg-type]
        )
        rows = _rows(triples, factory, source["ids"])
        made = EvaluationSet.create(factory, config, split=split, triples=rows, on_batch=report)
        with written_aside(output) as aside:
            aside.write_text(made.to_json() + "\n", encoding="utf-8")
    click.echo(f"{output}: {_summary(made)}")


@evaluation_set.command()
@_source_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File for the candidates, ending in .npz or .parquet.",
)
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("triples", type=click.File(encoding="utf-8"), required=False)
def export(output: Path, manifest: Path, triples: Any, **source: Any) -> None:
    """Draw the set of MANIFEST for TRIPLES, and write it to a file.

    Without TRIPLES, with --compute client, those of the split that the manifest names are taken.
    """
    from negserve.evaluation.candidate_sets.candidate_files import write_candidates
    from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet

    with _opened(**source) as factory, _shown("drawing") as report:
        pinned = EvaluationSet.from_json(manifest.read_bytes())
        rows = _rows(triples, factory, source["ids"])
        write_candidates(output, pinned, factory, triples=rows, on_batch=report)
    click.echo(f"{output}: {_summary(pinned)}")


@evaluation_set.command()
@_source_options
@click.option(
    "--file",
    "materialised",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare this file of export, too.",
)
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("triples", type=click.File(encoding="utf-8"), required=False)
def verify(materialised: Path | None, manifest: Path, triples: Any, **source: Any) -> None:
    """Draw the set of MANIFEST again, and compare it with the manifest's digest.

    Ends with status 1 if graph, triples or candidates are not those of the manifest.
    """
    from negserve.evaluation.candidate_sets.candidate_files import read_candidates
    from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet

    with _opened(**source) as factory, _shown("drawing") as report:
        pinned = EvaluationSet.from_json(manifest.read_bytes())
        if materialised is not None:
            found = read_candidates(materialised)[0]
            pinned.compare(found.digest, found.num_saturated)
        rows, done = _rows(triples, factory, source["ids"]), 0
        for batch in pinned.batches(factory, triples=rows):
            done += len(batch)
            report(done, pinned.num_queries)
    click.echo(f"{manifest}: verified, {_summary(pinned)}")


_SOURCE = ("target", "timeout", "dataset", "compute", "ids")


@contextmanager
def _opened(target: str, timeout: float, dataset: str, compute: Any, ids: bool) -> Iterator[Any]:
    """Give the dataset; end the command where something is wrong."""
    del ids
    try:
        with Client(target, timeout=timeout, patience=min(timeout, PATIENCE)) as client:
            yield client.triples_factory(dataset, compute=compute)
    except (NegserveError, OSError, ImportError) as error:
        raise click.ClickException(printable(str(error))) from error


def _rows(lines: Any, factory: Any, ids: bool) -> NDArray[np.int64] | None:
    if lines is None:
        return None
    parts = list(read_triples(lines, Vocabulary(factory, ids)))
    return np.concatenate(parts) if parts else np.empty((0, 3), dtype=np.int64)


def _summary(made: EvaluationSet) -> str:
    saturated = sum(made.num_saturated.values())
    return (
        f"{made.num_queries:,} queries with {made.sampler.num_negs_per_pos} candidates each, "
        f"{saturated:,} of them with fewer legal ones; SHA-256 {made.digest}"
    )


@contextmanager
def _shown(label: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that shows progress: a bar on a terminal, else a line now and then."""
    bar: Any = None
    next_line = time.monotonic() + _LINE_SECONDS

    def report(done: int, total: int) -> None:
        nonlocal bar, next_line
        if sys.stderr.isatty():
            if bar is None:
                bar = click.progressbar(length=total, label=label, file=sys.stderr)
            bar.update(done - bar.pos)
        elif time.monotonic() >= next_line:
            next_line = time.monotonic() + _LINE_SECONDS
            click.echo(f"{label}: {done:,} of {total:,} queries", err=True)

    try:
        yield report
    finally:
        if bar is not None:
            bar.render_finish()
