"""The options of commands that read a graph, each stated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.readers.sources import SPLIT_OF, divide_name

_FILE = click.Path(exists=True, path_type=Path)


def _columns(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else tuple(value.split(","))


def _fractions(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    if value is None:
        return None
    try:
        training, validation, testing = (float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give three numbers, such as 0.8,0.1,0.1") from error
    return training, validation, testing


_OPTIONS = [
    click.option(
        "--columns",
        metavar="C,C,C",
        callback=_columns,
        default=None,
        help="Names or places (from 1 on) of head, relation and tail; or the words head, relation "
        "and tail in the order of the columns.",
    ),
    click.option(
        "--separator",
        default=None,
        metavar="CHAR",
        help="What stands between fields: tab, space, comma, semicolon, pipe, or what is given.  "
        "[default: by the ending of the file]",
    ),
    click.option(
        "--header/--no-header",
        default=None,
        help="The first line names the columns, or is a triple.  [default: by usual names]",
    ),
    click.option("--ids/--labels", default=None, help="Integers are ids, or only names."),
    click.option("--entity-ids", type=_FILE, default=None, help="File of the ids of entities."),
    click.option("--relation-ids", type=_FILE, default=None, help="File of those of relations."),
    click.option(
        "--strip/--no-strip",
        default=None,
        help="Drop blanks around labels, or tell labels by them.",
    ),
    click.option(
        "--normalize/--no-normalize",
        default=None,
        help="Bring labels into the normal form NFC, or tell labels by their Unicode form.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave out lines that can't be read."),
    click.option("--validation", type=_FILE, default=None, help="File of validation triples."),
    click.option("--testing", type=_FILE, default=None, help="File of test triples."),
    click.option(
        "--fractions",
        metavar="F,F,F",
        callback=_fractions,
        default=None,
        help="Divide the triples into training, validation and testing, such as 0.8,0.1,0.1.",
    ),
    click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Of that division."),
]


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`ReadOptions` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
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


def how_made(source: Path, options: ReadOptions) -> dict[str, Any]:
    """Describe how a snapshot is made of a source, for its manifest."""
    given = {
        each.name: _plain(getattr(options, each.name))
        for each in fields(options)
        if getattr(options, each.name) != each.default
    }
    return {
        "by": f"negserve {version('negserve')}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": str(source),
        "options": given,
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
