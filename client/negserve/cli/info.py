"""``negserve info``."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from negserve._calls.client import DEFAULT_TARGET
from negserve._sync.client import Client
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.cli.json_text import json_text
from negserve.errors import NegserveError
from negserve.terminal.target_option import PATIENCE, target_option
from negserve.types.checks.text import printable


@click.command()
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
        click.echo(json_text(facts))
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
