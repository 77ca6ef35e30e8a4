"""``negserve sample``."""

from __future__ import annotations

import sys
import warnings
from typing import Any, TextIO

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from negserve._calls.client import DEFAULT_TARGET
from negserve._protocol.messages import FILTER_MODES, SLOTS, SPLITS
from negserve._sync.client import Client
from negserve.cli.json_text import json_text
from negserve.errors import NegserveError
from negserve.terminal.labelled_triples import Vocabulary, parse_mixture, read_triples
from negserve.terminal.target_option import PATIENCE, target_option
from negserve.types.checks.text import printable
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.kinds import KINDS


@click.command()
@target_option(DEFAULT_TARGET)
@click.option("--dataset", default="world", help="Dataset to sample from.")
@click.option(
    "--kind",
    "--sampler",
    "kind",
    type=click.Choice(list(KINDS)),
    show_default="basic, or mixture with --mixture",
    help=f"Kind of sampler. {' '.join(f'{kind.name}: {kind.draws}.' for kind in KINDS.values())}",
)
@click.option(
    "--alpha",
    default=0.75,
    help="With --kind degree: exponent of the frequency. 0 is uniform, 1 the frequency itself.",
)
@click.option(
    "--mixture",
    callback=parse_mixture,
    metavar="KIND=SHARES,...",
    help="Kinds to mix, with shares: bernoulli=3,typed=1 draws every fourth negative as typed.",
)
@click.option("-k", "--num-negs-per-pos", default=1, help="Negatives per positive.")
@click.option(
    "--slot",
    "slots",
    type=click.Choice(list(SLOTS)),
    multiple=True,
    default=["head", "tail"],
    help="A slot that may be replaced. Repeatable.",
)
@click.option(
    "--candidates",
    type=click.File(encoding="utf-8"),
    help="Draw only entities of this file: one label a line, or one id with --ids.",
)
@click.option(
    "--filtered", is_flag=True, help="Never draw a known triple, or mask it: see --filter-mode."
)
@click.option(
    "--split",
    "splits",
    type=click.Choice(list(SPLITS)),
    multiple=True,
    default=["training"],
    help="With --filtered: a split whose triples count as known. Repeatable.",
)
@click.option(
    "--filter-mode",
    type=click.Choice(list(FILTER_MODES)),
    default="exact",
    help="With --filtered: exact never draws known triples, mask draws and masks them.",
)
@click.option("--distinct", is_flag=True, help="Draw no value twice for one positive and slot.")
@click.option(
    "--chunk-size",
    default=1,
    help="Number of consecutive positives that share one set of values. A negative that equals "
    "its positive is masked.",
)
@click.option("--log-q", is_flag=True, help="Also print the log probability of each negative.")
@click.option("--seed", default=0, help="Key of the generator.")
@click.option("--position", default=0, help="Position of the first positive.")
@click.option("--ids", is_flag=True, help="Read and print ids instead of labels.")
@click.option(
    "--format", "output", type=click.Choice(["tsv", "jsonl"]), default="tsv",
    help="tsv: one negative a line; jsonl: one positive with its negatives a line.",
)  # fmt: skip
@click.argument("positives", type=click.File(encoding="utf-8"), default="-")
def sample(
    target: str,
    timeout: float,
    dataset: str,
    kind: str | None,
    mixture: tuple[tuple[str, int], ...],
    slots: tuple[str, ...],
    candidates: TextIO | None,
    filtered: bool,
    splits: tuple[str, ...],
    position: int,
    ids: bool,
    output: str,
    positives: TextIO,
    **options: Any,
) -> None:
    """Corrupt POSITIVES: lines head<TAB>relation<TAB>tail from a file or standard input.

    With tsv, each line of the output is a negative: head, relation, tail, and with --log-q a
    fourth column, the natural logarithm of its probability. Masked negatives are left out, and
    their number is printed on standard error. A negative is masked where no unknown one is left,
    where --filter-mode mask drew a known triple, or where --chunk-size drew the positive itself.

    With jsonl, each line is an object for one positive: `position`, `positive`, its `negatives`,
    its `mask` (false where the negative is not valid), and with --log-q `log_q`. The last three
    have the same order.

    Negatives are sorted by replaced slot (head, relation, tail), so the first ones are not a
    random subset.

    \b
    Examples:
      printf 'Germany\\thas_capital\\tBerlin\\n' | negserve sample -k 4 --filtered
      negserve sample --kind degree --alpha 0.5 --log-q -k 8 --format jsonl train.tsv
      negserve sample --mixture bernoulli=3,typed=1 -k 16 --filtered train.tsv
      negserve sample --chunk-size 256 -k 1000 --filtered --filter-mode mask train.tsv
    """  # noqa: D301
    _refuse_without_effect(filtered)
    warnings.showwarning = _show_warning
    try:
        with Client(target, timeout=timeout, patience=min(timeout, PATIENCE)) as client:
            factory = client.triples_factory(dataset)
            vocabulary = Vocabulary(factory, ids)
            sampler = factory.open_sampler(
                kind=kind or ("mixture" if mixture else "basic"),
                mixture=mixture,
                corruption_scheme=slots,
                candidates=None if candidates is None else _read_candidates(candidates, vocabulary),
                filter_splits=splits if filtered else (),
                **options,
            )
            num_masked = 0
            for triples in read_triples(positives, vocabulary):
                batch = sampler.sample(triples, position)
                num_masked += _write(batch, triples, vocabulary, output)
                position += len(triples)
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error
    if num_masked:
        left_out = " and left out" if output == "tsv" else ""
        click.echo(f"{num_masked} negatives are not valid{left_out}; see --help", err=True)


def _refuse_without_effect(filtered: bool) -> None:
    """Refuse a filter's options without --filtered."""
    context = click.get_current_context()
    for name, option in (("splits", "--split"), ("filter_mode", "--filter-mode")):
        if not filtered and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"{option} has no effect without --filtered: nothing is filtered. Add --filtered, "
                f"or leave {option} out"
            )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def _read_candidates(lines: TextIO, vocabulary: Vocabulary) -> tuple[int, ...]:
    entities = []
    for number, raw in enumerate(lines, start=1):
        if line := raw.rstrip("\r\n"):
            try:
                entities.append(vocabulary.parse(line, 0, "candidate"))
            except ValueError as error:
                raise click.ClickException(
                    printable(f"{lines.name}, line {number}: {error}")
                ) from error
    if not entities:
        raise click.ClickException(f"{lines.name} has no candidates; give one a line")
    return tuple(entities)


def _write(
    batch: CorruptedBatch, positives: NDArray[np.int64], vocabulary: Vocabulary, output: str
) -> int:
    """Print a batch and return the number of masked negatives."""
    negatives = batch.triples(positives)
    mask = np.ones(negatives.shape[:2], dtype=np.bool_) if batch.mask is None else batch.mask
    # Labels go into a pipe unescaped: the reader needs them exactly.
    shown = (lambda text: printable(str(text))) if sys.stdout.isatty() else str
    for i, positive in enumerate(positives.tolist()):
        named = [vocabulary.name(triple) for triple in negatives[i].tolist()]
        if output == "jsonl":
            line: dict[str, Any] = {
                "position": batch.position + i,
                "positive": vocabulary.name(positive),
                "negatives": named,
                "mask": mask[i].tolist(),
            }
            if batch.log_q is not None:
                line["log_q"] = _rounded(batch.log_q[i])
            sys.stdout.write(json_text(line) + "\n")
            continue
        if batch.log_q is not None:
            for row, log_q in zip(named, _rounded(batch.log_q[i]), strict=True):
                row.append(log_q)
        for row, valid in zip(named, mask[i], strict=True):
            if valid:
                sys.stdout.write("\t".join(map(shown, row)) + "\n")
    return int((~mask).sum())


def _rounded(values: NDArray[np.float32]) -> list[float]:
    """Convert float32 to float without the digits that the conversion adds."""
    return [float(str(value)) for value in values]
