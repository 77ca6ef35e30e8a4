"""Sizes in bytes on the command line."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from negserve_server.config.byte_size import Bytes, format_bytes


@click.command()
@click.option("--size", type=Bytes(lowest=4096))
def show(size: int) -> None:
    click.echo(size)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1073741824", 2**30),
        ("1GiB", 2**30),
        ("1 gib", 2**30),
        ("512MiB", 2**29),
        ("512M", 2**29),
        ("512mb", 2**29),
        ("1.5G", 3 * 2**29),
        ("4k", 4096),
        ("2TiB", 2**41),
        ("4096B", 4096),
    ],
)
def test_a_size_is_a_number_with_or_without_a_suffix(text: str, size: int) -> None:
    result = CliRunner().invoke(show, ["--size", text])
    assert result.output == f"{size}\n"


@pytest.mark.parametrize("text", ["", "many", "-1", "1e9", "1XB", "GiB", "1 2", "0x10", "nan"])
def test_a_malformed_size_is_refused_with_an_example(text: str) -> None:
    result = CliRunner().invoke(show, ["--size", text])
    assert result.exit_code == 2
    assert f"{text!r}: give a number of bytes, as 1073741824, 512MiB or 2GiB" in result.output


@pytest.mark.parametrize("text", ["0", "4095", "3.9k"])
def test_a_size_that_is_too_small_is_refused_with_the_least(text: str) -> None:
    result = CliRunner().invoke(show, ["--size", text])
    assert result.exit_code == 2
    assert f"{text!r}: give at least 4KiB" in result.output


@pytest.mark.parametrize("size", [1, 1000, 1024, 1025, 3 * 2**29, 2**30, 5 * 2**40, 0])
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert Bytes(lowest=0).convert(format_bytes(size), None, None) == size
