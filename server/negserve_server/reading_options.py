"""The options of commands that read a graph, each stated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from negserve_server.config.command_line import click_option
from negserve_server.config.option import options_of
from negserve_server.config.reading import Reading
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.readers.sources import SPLIT_OF, divide_name

_FILE = click.Path(exists=True, path_type=Path)


def _options() -> list[click.Option]:
    options = [click_option(each) for each in options_of(Reading)]
    for option in options:
        if isinstance(option.type, click.Path):
            option.type = _FILE
    splits = {"--validation": "File of validation triples.", "--testing": "File of test triples."}
    before = [option.name for option in options].index("fractions")
    options[before:before] = [
        click.Option([name], type=_FILE, default=None, help=text) for name, text in splits.items()
    ]
    return options


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`ReadOptions` to a command."""
    before: list[click.Parameter] = getattr(command, "__click_params__", [])
    command.__click_params__ = [*reversed(_options()), *before]  # type: ignore[attr-defined]
    return command


def read_options(values: Mapping[str, Any]) -> ReadOptions:
    """Make the options of what a command got."""
    return ReadOptions(**values)


def one_source(sources: tuple[Path, ...], options: ReadOptions) -> tuple[Path, ReadOptions]:
    """Make a path and options of one source, or of several files that are named by splits.

    :raises click.UsageError: for several files that are not, or two of one split
    """
    if len(sources) == 1:
        return sources[0], options
    files: dict[str, Path | None] = {
        "training": None,
        "validation": options.validation,
        "testing": options.testing,
    }
    for source in sources:
        split = SPLIT_OF.get(divide_name(source)[0], "")
        if files.get(split, source) is not None:
            raise click.UsageError(
                f"{source.name} is {'one more of its split' if split else 'of no split by name'}; "
                f"of several files, name one train, and one each valid and test"
            )
        files[split] = source
    if files["training"] is None:
        raise click.UsageError("no file is named train; give the training triples, too")
    return files["training"], replace(
        options, validation=files["validation"], testing=files["testing"]
    )


def how_made(source: Path | None, options: ReadOptions) -> dict[str, Any]:
    """Describe how a snapshot is made of a source, for its manifest.

    :param source: None for the embedded graph
    """
    given = {
        each.name: _plain(getattr(options, each.name))
        for each in fields(options)
        if getattr(options, each.name) != each.default
    }
    return {
        "by": f"negserve {version('negserve')}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": "the embedded graph" if source is None else str(source),
        "options": given,
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
