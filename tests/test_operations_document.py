"""docs/operations.md: its commands for tokens and TLS work as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from negserve._transport import credentials
from negserve_server.cli import main
from tests.support.graphs import REPOSITORY, load
from tests.support.server_process import server_process

DOCUMENT = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")


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


def test_every_option_of_serve_is_in_the_table():
    serve = main.commands["serve"]  # type: ignore[attr-defined]
    options = {
        option.opts[0]: f"NEGSERVE_SERVE_{(option.name or '').upper()}"
        for option in serve.params
        if isinstance(option, click.Option)
    }
    table = dict(re.findall(r"^\| `(--[\w-]+)[^|]*` \| `(\w+)` \|", DOCUMENT, flags=re.MULTILINE))
    assert table == options


def test_every_variable_of_a_client_is_in_the_table():
    rows = "\n".join(re.findall(r"^\| `NEGSERVE_.*$", DOCUMENT, flags=re.MULTILINE))
    stated = set(re.findall(r"`(NEGSERVE_\w+)", rows))
    assert stated == set(
        re.findall(r"^    (NEGSERVE_\w+)", credentials.__doc__ or "", re.MULTILINE)
    )


def test_the_manifests_are_yaml_with_options_of_the_server():
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    deployment = yaml.safe_load(blocks[0])
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    changed = yaml.safe_load("spec:\n      containers:\n        -\n" + blocks[1])
    serve = main.commands["serve"]  # type: ignore[attr-defined]
    for args in (container["args"], changed["spec"]["containers"][0]["args"]):
        assert args[0] == "serve"
        serve.make_context("serve", args[1:])
