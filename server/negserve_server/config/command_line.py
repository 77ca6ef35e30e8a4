"""The options as those of a command line, and back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from negserve_server.config.byte_size import Bytes, format_bytes
from negserve_server.config.limits import Limits
from negserve_server.config.option import NamedOption, options_of
from negserve_server.config.reading import Reading
from negserve_server.config.server_config import WORLD, ServerConfig

#: Options that are fields of a dataclass of their own.
_GROUPS: dict[str, Any] = {"reading": Reading, "limits": Limits}


def server_options() -> Iterator[NamedOption]:
    """Give all options of ``negserve-server serve``, in the order of ``--help``."""
    for each in ServerConfig.__dataclass_fields__:
        if each in _GROUPS:
            yield from options_of(_GROUPS[each])
        else:
            yield from (one for one in options_of(ServerConfig) if one.field == each)


def click_options() -> list[click.Parameter]:
    """Make the options of ``negserve-server serve``."""
    return [click_option(each) for each in server_options()]


def server_config(values: Mapping[str, Any]) -> ServerConfig:
    """Make the configuration of a command line.

    :param values: by name of the option; None for the default
    :raises ValueError: naming what does not fit together
    :raises click.UsageError: if two datasets have one name
    """
    given = {
        each.field: values[each.name]
        for each in server_options()
        if values[each.name] is not None and each.option.value != "NAME=PATH"
    }
    datasets = values["dataset"]
    if not datasets and values["repository"] is None:
        datasets = [(WORLD, None)]
    if len({name for name, _ in datasets}) < len(datasets):
        raise click.UsageError("two datasets of one name; give each its own")
    groups = {
        group: of(**{each.field: given.pop(each.field) for each in options_of(of)
                     if each.field in given})
        for group, of in _GROUPS.items()
    }  # fmt: skip
    return ServerConfig(datasets=dict(datasets), **groups, **given)


def default_text(each: NamedOption) -> str:
    """Write the default of an option; empty if there is none."""
    if each.option.default_text or each.default is None:
        return each.option.default_text
    if each.option.value == "BYTES":
        return format_bytes(each.default)
    if each.option.value == "FLAG":
        return "off"
    if each.option.is_repeatable:
        return ", ".join(each.default)
    return f"{each.default:g}" if isinstance(each.default, float) else str(each.default)


def click_option(each: NamedOption) -> click.Option:
    """Make an option."""
    option = each.option
    text = option.help.replace("`", "")
    default = default_text(each)
    if default:
        text += f"  [default: {default}]"
    if option.value == "FLAG":
        return click.Option([each.flag], is_flag=True, help=text, show_default=False)
    if option.value == "YES|NO":
        return click.Option([each.flags], default=None, help=text, show_default=False)
    return click.Option(
        [each.flag],
        type=_click_type(each),
        metavar=option.value,
        multiple=option.is_repeatable,
        default=each.default,
        callback=_CALLBACKS.get(option.value),
        help=text,
        show_default=False,
    )


def _click_type(each: NamedOption) -> click.ParamType[Any]:
    option = each.option
    if option.value == "N":
        least, most = (
            None if bound is None else int(bound) for bound in (option.least, option.most)
        )
        return click.IntRange(least, most)
    if option.value == "SECONDS":
        if option.above is not None:
            return click.FloatRange(option.above, min_open=True)
        return click.FloatRange(option.least)
    if option.value == "BYTES":
        return Bytes(lowest=int(option.least or 0))
    if option.value == "text|json":
        return click.Choice(option.value.split("|"))
    if option.value in {"FILE", "DIR"}:
        return click.Path(path_type=Path, file_okay=option.value == "FILE")
    return _Dataset() if option.value == "NAME=PATH" else click.STRING


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


_CALLBACKS: dict[str, Any] = {"C,C,C": _columns, "F,F,F": _fractions}


class _Dataset(click.ParamType[tuple[str, Path | None]]):
    """A name and a path; None for the embedded graph."""

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
