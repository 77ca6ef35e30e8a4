"""Sizes in bytes, as options of the command line take them."""

from __future__ import annotations

import re

import click

#: Factors of the suffixes, those that divide a size first when one is written out.
_UNITS = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([KMGT]i?)?B?", re.IGNORECASE)


class Bytes(click.ParamType[int]):
    """A number of bytes: ``1073741824``, ``1GiB``, ``1.5g``; every suffix counts in 1024."""

    name = "BYTES"

    def __init__(self, lowest: int = 1) -> None:
        self._lowest = lowest

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Give the number of bytes.

        A suffix is K, M, G or T, with ``iB``, ``B`` or nothing behind it, in any case.
        """
        if isinstance(value, int):
            return value
        text = str(value).strip()
        match = _SIZE.fullmatch(text)
        if match is None:
            self.fail(
                f"{text!r}: give a number of bytes, as 1073741824, 512MiB or 2GiB", param, ctx
            )
        whole, fraction, suffix = match.groups()
        unit = _UNITS[f"{suffix[0].upper()}iB"] if suffix else 1
        size = int(whole) * unit
        if fraction:
            size += int(fraction) * unit // 10 ** len(fraction)
        if size < self._lowest:
            self.fail(f"{text!r}: give at least {format_bytes(self._lowest)}", param, ctx)
        return size


def format_bytes(size: int) -> str:
    """Write a number of bytes as :class:`Bytes` reads it, exactly: ``1GiB``, ``1000``."""
    for suffix, unit in _UNITS.items():
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
