"""Server options: bounds, defaults and names come from one statement of each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from negserve_server.config.command_line import click_options, server_config
from negserve_server.config.limits import Limits
from negserve_server.config.reading import Reading
from negserve_server.config.server_config import ServerConfig
from negserve_server.graph.readers import ReadOptions


def read(*arguments: str, environment: dict[str, str] | None = None) -> ServerConfig:
    """Give the configuration that `serve` makes of a command line."""
    found: list[ServerConfig] = []

    def take(**values: Any) -> None:
        found.append(server_config(values))

    command = click.Command("serve", params=click_options(), callback=take)
    CliRunner().invoke(
        command,
        list(arguments),
        env=environment,
        auto_envvar_prefix="NEGSERVE_SERVE",
        standalone_mode=False,
        catch_exceptions=False,
    )
    return found[0]


def test_without_options_the_command_line_gives_the_defaults():
    assert read() == ServerConfig()


def test_options_reach_the_fields_that_state_them():
    config = read(
        "--dataset", "fb=data/fb15k", "--dataset", "world", "--listen", "unix:/run/a",
        "--max-streams", "7", "--max-table-bytes", "2MiB", "--idle-timeout", "1.5",
        "--allow-publish", "--publish-dir", "kept",
    )  # fmt: skip
    assert config.datasets == {"fb": Path("data/fb15k"), "world": None}
    assert config.listen == ("unix:/run/a",)
    assert config.limits == Limits(max_streams=7, max_table_bytes=2**21, idle_timeout=1.5)
    assert config.allow_publish
    assert config.publish_dir == Path("kept")


def test_options_about_files_come_from_the_command_line_and_the_environment():
    config = read(
        "--columns", "tail,head,relation", "--separator", "pipe", "--no-header", "--labels",
        "--entity-ids", "ids.tsv", "--fractions", "0.8,0.1,0.1", "--seed", "7", "--skip-bad",
        environment={"NEGSERVE_SERVE_STRIP": "no", "NEGSERVE_SERVE_NORMALIZE": "1"},
    )  # fmt: skip
    assert config.reading == Reading(
        columns=("tail", "head", "relation"),
        separator="pipe",
        header=False,
        ids=False,
        entity_ids=Path("ids.tsv"),
        strip=False,
        normalize=True,
        skip_bad=True,
        fractions=(0.8, 0.1, 0.1),
        seed=7,
    )
    assert config.of_worker().reading == config.reading
    with pytest.raises(click.BadParameter, match="give three numbers"):
        read("--fractions", "a half")


def test_options_about_files_have_the_defaults_of_the_reader():
    assert ReadOptions(**asdict(Reading())) == ReadOptions()


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_shares_of_workers_keep_what_is_stated_for_all(workers: int):
    config = ServerConfig(workers=workers, threads=4)
    share = config.of_worker()
    for name in ("max_streams", "max_streams_per_token", "max_ahead_bytes", "max_table_bytes"):
        whole, part = getattr(config.limits, name), getattr(share.limits, name)
        assert whole - workers < part * workers <= whole
    assert share.limits.max_streams_per_connection <= share.limits.max_streams
    assert share.threads == max(1, -(-4 // workers))
    assert share.limits.max_negatives_per_message == config.limits.max_negatives_per_message
    assert share.datasets == config.datasets
    if workers == 1:
        assert share == config


def test_the_environment_gives_what_the_command_line_does_not():
    environment = {
        "NEGSERVE_SERVE_DATASET": "world:fb=data/fb15k",
        "NEGSERVE_SERVE_LISTEN": "127.0.0.1:1 unix:/run/a",
        "NEGSERVE_SERVE_MAX_STREAMS": "7",
        "NEGSERVE_SERVE_ALLOW_PUBLISH": "1",
    }
    config = read("--max-streams", "8", environment=environment)
    assert config.datasets == {"world": None, "fb": Path("data/fb15k")}
    assert config.listen == ("127.0.0.1:1", "unix:/run/a")
    assert config.limits.max_streams == 8
    assert config.allow_publish


@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("max_streams", 0, "at least 1"),
        ("max_publish_ids", 1, "at least 2"),
        ("max_table_bytes", 2**20 - 1, "at least"),
        ("max_negatives_per_positive", 2**20 + 1, "at most 1048576"),
        ("idle_timeout", 0.0, "more than 0"),
        ("table_keep_seconds", -1.0, "at least 0"),
    ],
)
def test_a_value_outside_the_bounds_is_refused_by_both(field: str, value: float, bound: str):
    flag = f"--{field.replace('_', '-')}"
    with pytest.raises(ValueError, match=f"{flag} is {value}; give {bound}"):
        Limits(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(click.BadParameter) as caught:
        read(flag, str(value))
    assert flag in caught.value.format_message()


def test_two_datasets_of_one_name_are_refused():
    with pytest.raises(click.UsageError, match="one name"):
        read("--dataset", "a=b", "--dataset", "a=c")
