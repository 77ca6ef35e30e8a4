"""A server option: a dataclass field that states everything a user is told about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, cast

#: What a value is. The command line parses it accordingly and shows it in place of the value.
Value = Literal[
    "N",
    "BYTES",
    "SECONDS",
    "FLAG",
    "YES|NO",
    "FILE",
    "DIR",
    "ADDR",
    "NAME=PATH",
    "LEVEL|FILE",
    "text|json",
    "C,C,C",
    "F,F,F",
    "CHAR",
]

#: Prefix of the variables in the environment.
ENVIRONMENT_PREFIX = "NEGSERVE_SERVE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Everything about an option but its name and default, which are those of the field.

    :ivar value: what its value is
    :ivar help: its meaning; text in backquotes is literal
    :ivar least: smallest value
    :ivar above: the value must be larger than this
    :ivar most: largest value
    :ivar default_text: the default in words, where it is computed or there is none
    :ivar name: name of the option where it is not that of the field
    :ivar off: name of the flag for no, of an option that is yes, no or not given
    :ivar is_repeatable: whether it may be given several times
    :ivar see: heading of ``docs/operations.md`` that says more, as an anchor
    """

    value: Value
    help: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    default_text: str = ""
    name: str = ""
    off: str = ""
    is_repeatable: bool = False
    see: str = ""


@dataclass(frozen=True, slots=True)
class NamedOption:
    """An option with the name and the default of its field.

    :ivar field: name of the field
    :ivar default: None where it is computed
    :ivar option: everything else
    """

    field: str
    default: Any
    option: Option

    @property
    def name(self) -> str:
        """Name on the command line, with underscores."""
        return self.option.name or self.field

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def flags(self) -> str:
        """What a command line may have: the flag, its value, and that for no."""
        if self.option.off:
            return f"{self.flag}/--{self.option.off}"
        return self.flag if self.option.value == "FLAG" else f"{self.flag} {self.option.value}"

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return f"{ENVIRONMENT_PREFIX}{self.name.upper()}"


def option(
    value: Value,
    default: Any = None,
    *,
    default_factory: Callable[[], Any] | None = None,
    **rest: Any,
) -> Any:
    """Make a dataclass field that is an option.

    :param value: what its value is
    :param default_factory: computes the default, in place of ``default``
    :param rest: fields of :class:`Option`
    """
    metadata = {"option": Option(value=value, **rest)}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(config: Any) -> Iterator[NamedOption]:
    """Give the options among the fields of a dataclass, or of an instance, in order."""
    for each in fields(config):
        stated = _stated(each)
        if stated is not None:
            default = each.default if each.default_factory is MISSING else None
            yield NamedOption(each.name, default, stated)


def check_bounds(config: Any) -> None:
    """Refuse values outside the bounds of their options.

    :param config: an instance of a dataclass
    :raises ValueError: naming option, value and bound
    """
    for each in options_of(config):
        value, stated = getattr(config, each.field), each.option
        if stated.least is not None and value < stated.least:
            raise ValueError(f"{each.flag} is {value}; give at least {stated.least:g}")
        if stated.above is not None and value <= stated.above:
            raise ValueError(f"{each.flag} is {value}; give more than {stated.above:g}")
        if stated.most is not None and value > stated.most:
            raise ValueError(f"{each.flag} is {value}; give at most {int(stated.most)}")


def _stated(each: Field[Any]) -> Option | None:
    return cast("Option | None", each.metadata.get("option"))
