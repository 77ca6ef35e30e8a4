"""docs/operations.md: its commands for tokens and TLS work as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from negserve._transport import credentials
from negserve_server.cli import main
from negserve_server.config.command_line import default_text, server_options
from negserve_server.logs.fields import EVENTS, FIELDS
from negserve_server.metrics.catalogue import METRICS
from tests.support.graphs import REPOSITORY, load
from tests.support.server_process import server_process

PATH = REPOSITORY / "docs" / "operations.md"
DOCUMENT = PATH.read_text(encoding="utf-8")


def test_the_example_of_tokens_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    prepare, ask = re.findall(r"```sh try\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    *commands, serve = prepare.splitlines()
    for command in commands:
        subprocess.run(command, shell=True, check=True, capture_output=True, timeout=60)
    program, name, *options = shlex.split(serve)
    assert (program, name) == ("negserve-server", "serve")
    listen = options.index("--listen")
    _, address = options[listen : listen + 2]
    del options[listen : listen + 2]
    with server_process(*options) as server:
        script = ask.replace(address, server.target).replace(
            "\nnegserve ", f"\n{shlex.quote(sys.executable)} -m negserve.cli "
        )
        done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert load("world").fingerprint in done.stdout
        without = script.partition("\n")[2]
        done = subprocess.run(["bash", "-ec", without], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0, "the example would work without them"


def options_table() -> str:
    """Make the table of options from where they are stated."""
    rows = ["| option | environment | default | meaning |", "|---|---|---|---|"]
    for each in server_options():
        default = default_text(each)
        literal = bool(default) and not each.option.default_text and default != "off"
        meaning = each.option.help + (f" [More](#{each.option.see})" if each.option.see else "")
        cells = (
            f"`{each.flags}`",
            f"`{each.variable}`",
            f"`{default}`" if literal else default or "-",
            meaning,
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def metrics_table() -> str:
    """Make the table of metrics from their catalogue."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "-"
        rows.append(f"| `{each.name}` | {each.type} | {labels} | {each.help} |")
    return "\n".join(rows)


def fields_table() -> str:
    """Make the table of the fields of JSON lines from their catalogue."""
    rows = ["| field | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in FIELDS.items()]
    return "\n".join(rows)


def events_table() -> str:
    """Make the table of events from their catalogue."""
    rows = ["| event | what happened |", "|---|---|"]
    rows += [f"| `{name}` | {meaning} |" for name, meaning in EVENTS.items()]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("options of serve", options_table),
        ("metrics", metrics_table),
        ("fields of JSON lines", fields_table),
        ("events", events_table),
    ],
    ids=("options", "metrics", "fields", "events"),
)
def test_the_table_is_what_the_code_states(name: str, make: Callable[[], str]):
    document = PATH.read_text(encoding="utf-8")
    before, begin, rest = document.partition(f"<!-- {name}: make options -->\n")
    _, end, after = rest.partition(f"\n<!-- end of {name.split(maxsplit=1)[0]} -->")
    assert begin
    assert end
    if os.environ.get("NEGSERVE_WRITE_DOCUMENTS"):
        PATH.write_text(before + begin + make() + end + after, encoding="utf-8")
    else:
        assert rest.startswith(make() + end), "write the table: make options"


def test_options_lead_to_headings_that_exist():
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", DOCUMENT, flags=re.MULTILINE)
    }
    assert {each.option.see for each in server_options()} - {""} <= anchors


def test_options_of_the_command_line_and_of_the_environment_are_those_that_are_stated():
    serve = main.commands["serve"]  # type: ignore[attr-defined]
    assert {
        option.opts[0]: f"NEGSERVE_SERVE_{(option.name or '').upper()}"
        for option in serve.params
        if isinstance(option, click.Option)
    } == {each.flag: each.variable for each in server_options()}


def test_every_variable_of_a_client_is_in_the_table():
    rows = "\n".join(re.findall(r"^\| `NEGSERVE_.*$", DOCUMENT, flags=re.MULTILINE))
    stated = set(re.findall(r"`(NEGSERVE_\w+)", rows))
    assert stated == set(
        re.findall(r"^    (NEGSERVE_\w+)", credentials.__doc__ or "", re.MULTILINE)
    )
