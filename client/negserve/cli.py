"""The command ``negserve``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

try:
    import click
except ImportError as error:  # pragma: no cover - a message, not a behaviour
    raise SystemExit("negserve's command line needs more: pip install 'negserve[cli]'") from error
import numpy as np
from numpy.typing import NDArray

from negserve.client import DEFAULT_TARGET, Client
from negserve.corrupted_batch import CorruptedBatch
from negserve.errors import NegserveError
from negserve.triples_factory import RemoteTriplesFactory
from negserve.wire import KINDS, SLOTS, SPLITS

_LINES_PER_REQUEST = 1024
_COLUMNS = ("head", "relation", "tail")


def _target_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--target",
        default=DEFAULT_TARGET,
        envvar="NEGSERVE_TARGET",
        show_envvar=True,
        help="Address of the server: HOST:PORT or unix:PATH.",
    )(
        click.option(
            "--timeout",
            default=30.0,
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds a call may take.",
        )(command)
    )


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="negserve")
def main() -> None:
    """Ask a negserve server: what it holds, and for negatives."""


@main.command()
@_target_option
@click.argument("dataset", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(target: str, timeout: float, dataset: str | None, as_json: bool) -> None:
    """Describe the server's datasets, or one DATASET with its relations."""
    try:
        with Client(target, timeout=timeout) as client:
            names = [dataset] if dataset is not None else client.list_datasets()
            facts = [_describe(client.triples_factory(name), bool(dataset)) for name in names]
    except NegserveError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for fact in facts:
        relations = fact.pop("relations", [])
        for name, value in fact.items():
            click.echo(f"{name:<22} {value:,}" if isinstance(value, int) else f"{name:<22} {value}")
        if relations:
            click.echo(f"\n{'tph':>10} {'hpt':>10} {'P(head)':>8}  relation")
        for relation in relations:
            numbers = (relation["tph"], relation["hpt"])
            tph, hpt = ("-" if number is None else f"{number:.2f}" for number in numbers)
            click.echo(
                f"{tph:>10} {hpt:>10} {relation['head_probability']:>8.3f}  {relation['label']}"
            )


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
@_target_option
@click.option("--dataset", default="world", help="Dataset to sample from.")
@click.option("--sampler", "kind", type=click.Choice(list(KINDS)), default="basic")
@click.option("-k", "--num-negs-per-pos", default=1, help="Negatives per positive.")
@click.option(
    "--slot",
    "slots",
    type=click.Choice(list(SLOTS)),
    multiple=True,
    default=["head", "tail"],
    help="A slot that may be replaced. Repeatable.",
)
@click.option("--filtered", is_flag=True, help="Never return a known triple.")
@click.option(
    "--split",
    "splits",
    type=click.Choice(list(SPLITS)),
    multiple=True,
    default=["training"],
    help="A split whose triples count as known. Repeatable.",
)
@click.option("--seed", default=0, help="Key of the generator.")
@click.option("--position", default=0, help="Position of the first positive.")
@click.option("--ids", is_flag=True, help="Read and print ids instead of labels.")
@click.option(
    "--format", "output", type=click.Choice(["tsv", "jsonl"]), default="tsv",
    help="tsv: a negative a line; jsonl: a positive with its negatives a line.",
)  # fmt: skip
@click.argument("positives", type=click.File(encoding="utf-8"), default="-")
def sample(
    target: str,
    timeout: float,
    dataset: str,
    kind: str,
    num_negs_per_pos: int,
    slots: tuple[str, ...],
    filtered: bool,
    splits: tuple[str, ...],
    seed: int,
    position: int,
    ids: bool,
    output: str,
    positives: TextIO,
) -> None:
    """Corrupt POSITIVES: lines head<TAB>relation<TAB>tail from a file or standard input.

    A negative whose positive has no unknown corruption at all is left out of tsv output and
    counted on standard error; in jsonl its `mask` is false.

    \b
    Example:
      printf 'Germany\\thas_capital\\tBerlin\\n' | negserve sample -k 4 --filtered
    """  # noqa: D301
    try:
        with Client(target, timeout=timeout) as client:
            factory = client.triples_factory(dataset)
            sampler = factory.open_sampler(
                kind=kind,
                num_negs_per_pos=num_negs_per_pos,
                corruption_scheme=slots,
                filter_splits=splits if filtered else (),
                seed=seed,
            )
            names = _Names(factory, ids)
            num_masked = 0
            for triples in _read(positives, names):
                batch = sampler.sample(triples, position)
                num_masked += _write(batch, triples, names, output)
                position += len(triples)
    except NegserveError as error:
        raise click.ClickException(str(error)) from error
    if num_masked:
        click.echo(f"{num_masked} negatives are known: no corruption is unknown", err=True)


class _Names:
    """What stands for an id in the input and the output."""

    def __init__(self, factory: RemoteTriplesFactory, ids: bool) -> None:
        self._to_id = None
        if not ids:
            entities = factory.entity_to_id, factory.entity_labels
            relations = factory.relation_to_id, factory.relation_labels
            self._to_id = (entities[0], relations[0], entities[0])
            self._labels = (entities[1], relations[1], entities[1])
            if not entities[0]:
                raise click.UsageError(f"{factory.name} has no labels; use --ids")

    def parse(self, text: str, column: int) -> int:
        if self._to_id is None:
            if not text.isdecimal():
                raise ValueError(f"{_COLUMNS[column]} {text!r} is no id")
            return int(text)
        if text not in self._to_id[column]:
            raise ValueError(f"{_COLUMNS[column]} {text!r} is not in the vocabulary")
        return self._to_id[column][text]

    def name(self, triple: Sequence[int]) -> list[str | int]:
        if self._to_id is None:
            return list(triple)
        return [self._labels[column][i] for column, i in enumerate(triple)]


def _read(lines: TextIO, names: _Names) -> Iterator[NDArray[np.int64]]:
    rows: list[list[int]] = []
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\r\n")
        if not line:
            continue
        fields = line.split("\t")
        try:
            if len(fields) != 3:
                raise ValueError(f"{len(fields)} tab-separated fields where 3 are due")
            rows.append([names.parse(field, column) for column, field in enumerate(fields)])
        except ValueError as error:
            raise click.ClickException(f"{lines.name}, line {number}: {error}") from error
        if len(rows) == _LINES_PER_REQUEST:
            yield np.array(rows)
            rows = []
    if rows:
        yield np.array(rows)


def _write(batch: CorruptedBatch, positives: NDArray[np.int64], names: _Names, output: str) -> int:
    """Print a batch and give the number of masked negatives."""
    negatives = batch.triples(positives)
    mask = np.ones(negatives.shape[:2], dtype=np.bool_) if batch.mask is None else batch.mask
    for i, positive in enumerate(positives.tolist()):
        named = [names.name(triple) for triple in negatives[i].tolist()]
        if output == "jsonl":
            line: dict[str, Any] = {
                "position": batch.position + i,
                "positive": names.name(positive),
            }
            line |= {"negatives": named, "mask": mask[i].tolist()}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            continue
        for triple, valid in zip(named, mask[i], strict=True):
            if valid:
                sys.stdout.write("\t".join(map(str, triple)) + "\n")
    return int((~mask).sum())


if __name__ == "__main__":
    main()
