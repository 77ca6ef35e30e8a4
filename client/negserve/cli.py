"""The command-line program ``negserve``."""

from __future__ import annotations

from negserve.terminal.ending import ending_at_once

_importing = ending_at_once()  # Ctrl-C during the imports, which take a moment
_importing.__enter__()

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, TextIO

from negserve.terminal.extras import needing_or_exit

with needing_or_exit("the command negserve", "negserve[cli]"):
    import click
    import numpy as np
    from click.core import ParameterSource
    from numpy.typing import NDArray

    from negserve._calls.client import DEFAULT_TARGET
    from negserve._protocol.messages import FILTER_MODES, SLOTS, SPLITS
    from negserve._sync.client import Client
    from negserve._sync.triples_factory import RemoteTriplesFactory
    from negserve.errors import NegserveError
    from negserve.evaluation.candidate_sets.commands import evaluation_set
    from negserve.terminal.command import Commands
    from negserve.terminal.labelled_triples import (
        Vocabulary,
        numbered_lines,
        parse_mixture,
        read_triples,
    )
    from negserve.terminal.target_option import PATIENCE, target_option
    from negserve.terminal.variables import mistyped_variables
    from negserve.types.checks.text import printable
    from negserve.types.corrupted_batch import CorruptedBatch
    from negserve.types.kinds import KINDS

#: Interval of lines about a download, where there is no terminal.
_LINE_SECONDS = 5.0


@click.group(cls=Commands, context_settings={"show_default": True})
@click.version_option(package_name="negserve")
def main() -> None:
    """Describe a negserve server and its datasets, draw negatives, or download a dataset.

    Credentials come from the environment. NEGSERVE_TOKEN or NEGSERVE_TOKEN_FILE: the token, for
    servers that require one. NEGSERVE_CA_FILE (certificate authorities, PEM) or NEGSERVE_TLS=1
    (public authorities): use TLS. NEGSERVE_CERT_FILE and NEGSERVE_KEY_FILE: a client certificate.
    """
    for warning in mistyped_variables():
        click.echo(f"Warning: {warning}", err=True)


@main.command()
@target_option(DEFAULT_TARGET)
@click.argument("dataset", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(target: str, timeout: float, dataset: str | None, as_json: bool) -> None:
    """Describe the server and its datasets, or one DATASET with its relations."""
    try:
        with Client(target, timeout=timeout, patience=min(timeout, PATIENCE)) as client:
            server = client.server_info()
            names = [dataset] if dataset is not None else client.list_datasets()
            facts = [_describe(client.triples_factory(name), bool(dataset)) for name in names]
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error
    if as_json:
        click.echo(_json(facts))
        return
    versions = ", ".join(map(str, server.algorithm_versions))
    click.echo(f"{'server':<22} {server.version}, sampling function {versions}")
    for fact in facts:
        relations = fact.pop("relations", [])
        for name, value in fact.items():
            shown = f"{value:,}" if isinstance(value, int) else printable(value)
            click.echo(f"{name:<22} {shown}")
        if relations:
            click.echo(f"\n{'tph':>10} {'hpt':>10} {'P(head)':>8}  relation")
        for relation in relations:
            numbers = (relation["tph"], relation["hpt"])
            tph, hpt = ("-" if number is None else f"{number:.2f}" for number in numbers)
            label = printable(relation["label"])
            click.echo(f"{tph:>10} {hpt:>10} {relation['head_probability']:>8.3f}  {label}")


def _describe(factory: RemoteTriplesFactory, with_relations: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "dataset": factory.name,
        "num_entities": factory.num_entities,
        "num_relations": factory.num_relations,
        **{f"num_{split}": count for split, count in factory.num_triples_per_split.items()},
        "fingerprint": factory.fingerprint,
    }
    if with_relations:
        statistics = factory.relation_statistics
        facts["relations"] = [
            {
                "label": factory.relation_labels[i] if factory.relation_labels else str(i),
                "tph": None if np.isnan(tph) else float(tph),
                "hpt": None if np.isnan(hpt) else float(hpt),
                "head_probability": float(probability),
            }
            for i, (tph, hpt, probability) in enumerate(
                zip(
                    statistics.tails_per_head,
                    statistics.heads_per_tail,
                    statistics.head_probability,
                    strict=True,
                )
            )
        ]
    return facts


@main.command()
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


@main.command()
@target_option(DEFAULT_TARGET)
@click.argument("dataset")
@click.argument("directory", type=click.Path(path_type=Path))
def pull(target: str, timeout: float, dataset: str, directory: Path) -> None:
    """Download the snapshot of DATASET to DIRECTORY.

    The server must run with --allow-pull. If it is interrupted, the same command continues. Nothing
    is done if the snapshot is there already.

    \b
    Examples:
      negserve pull fb15k-237 graphs/fb15k-237
      negserve-server serve --dataset fb=graphs/fb15k-237
    """  # noqa: D301
    shown = _Arriving(dataset)
    try:
        with Client(target, timeout=timeout, patience=timeout) as client, shown:
            folder = client.pull(dataset, directory, on_bytes=shown.report)
    except NegserveError as error:
        raise click.ClickException(printable(str(error))) from error
    click.echo(f"{dataset}: {folder}")


class _Arriving:
    """Shows how much of a download has arrived: a bar on a terminal, else a line now and then."""

    def __init__(self, dataset: str) -> None:
        self._label = f"pulling {dataset}"
        self._bar: Any = None
        self._next_line = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def report(self, arrived: int, total: int) -> None:
        """Show that so many bytes of so many have arrived."""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
            self._bar.update(arrived - self._bar.pos)
        elif time.monotonic() >= self._next_line or arrived == total:
            self._next_line = time.monotonic() + _LINE_SECONDS
            click.echo(f"{self._label}: {arrived:,} of {total:,} bytes", err=True)


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
    for number, raw in numbered_lines(lines):
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
            sys.stdout.write(_json(line) + "\n")
            continue
        if batch.log_q is not None:
            for row, log_q in zip(named, _rounded(batch.log_q[i]), strict=True):
                row.append(log_q)
        for row, valid in zip(named, mask[i], strict=True):
            if valid:
                sys.stdout.write("\t".join(map(shown, row)) + "\n")
    return int((~mask).sum())


def _json(value: object) -> str:
    """Encode as JSON in which only control characters are escaped."""
    return printable(json.dumps(value, ensure_ascii=False))


def _rounded(values: NDArray[np.float32]) -> list[float]:
    """Convert float32 to float without the digits that the conversion adds."""
    return [float(str(value)) for value in values]


main.add_command(evaluation_set)
_importing.__exit__(None, None, None)

if __name__ == "__main__":
    main()
