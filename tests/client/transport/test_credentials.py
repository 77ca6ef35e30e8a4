"""Tokens and TLS of the client come from the environment only."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from negserve import (
    Client,
    CredentialsError,
    EpochConfig,
    NegserveError,
    SamplerConfig,
    StalledError,
    UnavailableError,
    aio,
)
from negserve.sampling import BernoulliNegativeSampler
from tests.client.sampling.test_workers import NUM_COPIES, WithNegatives, loader_of
from tests.client.sync.test_transport import free_port
from tests.support import preloaded
from tests.support.certificates import Authority
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

OLD, NEW = "old-0123456789abcdef", "new-0123456789abcdef"
POSITIVES = load("world").mapped_triples[:50]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "TOKEN_FILE", "TLS", "CA_FILE", "CERT_FILE", "KEY_FILE"):
        monkeypatch.delenv(f"NEGSERVE_{name}", raising=False)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# of all trainers\n{OLD}\n{NEW}\n")
    return path


@pytest.fixture(scope="module")
def protected(tokens: Path) -> Iterator[ServerProcess]:
    with server_process("--token-file", str(tokens), "--allow-publish") as running:
        yield running


class Tls:
    """A server with TLS and tokens, and the files of its clients.

    :ivar server: TLS at its first address; at the second, a unix socket, none
    """

    def __init__(self, server: ServerProcess, authority: Authority, stranger: Authority) -> None:
        self.server = server
        self.authority = authority
        self.stranger = stranger


@pytest.fixture(scope="module")
def tls(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder / "ours"), Authority(folder / "theirs")
    cert, key = authority.issue("127.0.0.1")
    with server_process(
        "--token-file", str(tokens), "--tls-cert", cert, "--tls-key", key,
        listen=("127.0.0.1:0", f"unix:{folder / 'socket'}"),
    ) as server:  # fmt: skip
        yield Tls(server, authority, stranger)


def use_all(client: Client) -> None:
    """Call methods of every kind."""
    assert "world" in client.list_datasets()
    factory = client.triples_factory("world")
    assert len(factory.entity_labels) == factory.num_entities
    assert factory.contains(POSITIVES, ("training",)).all()
    assert factory.open_sampler().sample(POSITIVES, 0).replaced.shape == (50, 1)
    epoch = factory.epochs(SamplerConfig(), EpochConfig(batch_size=2000))
    assert len(list(epoch)) == 3


async def use_all_of_aio(target: str) -> None:
    async with aio.Client(target, timeout=5) as client:
        assert "world" in await client.list_datasets()
        factory = await client.triples_factory("world")
        assert (await factory.contains(POSITIVES, ("training",))).all()
        sampler = await factory.open_sampler()
        assert (await sampler.sample(POSITIVES, 0)).replaced.shape == (50, 1)
        epoch = factory.epochs(SamplerConfig(), EpochConfig(batch_size=2000))
        assert len([batch async for batch in epoch]) == 3


def test_without_a_token_the_error_says_how_to_give_one(protected: ServerProcess):
    begin = time.monotonic()
    with Client(protected.target) as client:
        with pytest.raises(CredentialsError, match="NEGSERVE_TOKEN") as caught:
            client.list_datasets()
        with pytest.raises(CredentialsError, match="NEGSERVE_TOKEN"):
            client.publish("mine", POSITIVES)
    assert caught.value.reason == "CREDENTIALS_MISSING"
    assert caught.value.target == protected.target
    assert isinstance(caught.value, NegserveError | PermissionError)
    assert time.monotonic() - begin < 5, "it is not tried again"


def test_a_token_of_the_environment(protected: ServerProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_TOKEN", f"{NEW}\n")
    with Client(protected.target) as client:
        use_all(client)
        client.publish("mine", POSITIVES)
    asyncio.run(use_all_of_aio(protected.target))


def test_a_token_of_a_file(protected: ServerProcess, tokens: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_TOKEN_FILE", str(tokens))
    with Client(protected.target) as client:
        use_all(client)
    asyncio.run(use_all_of_aio(protected.target))


def test_a_wrong_token_is_not_shown(protected: ServerProcess, monkeypatch: pytest.MonkeyPatch):
    wrong = "wrong-0123456789abcdef"
    monkeypatch.setenv("NEGSERVE_TOKEN", wrong)
    with (
        Client(protected.target) as client,
        pytest.raises(CredentialsError, match="unknown token") as caught,
    ):
        client.list_datasets()
    assert caught.value.reason == "CREDENTIALS_INVALID"
    assert wrong not in str(caught.value) + repr(caught.value) + repr(caught.value.metadata)
    with pytest.raises(CredentialsError, match="unknown token"):
        asyncio.run(use_all_of_aio(protected.target))


def test_the_file_is_read_anew_for_each_call(
    protected: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "token"
    path.write_text(OLD)
    monkeypatch.setenv("NEGSERVE_TOKEN_FILE", str(path))
    with Client(protected.target) as client:
        assert client.list_datasets()
        path.write_text("wrong-0123456789abcdef")
        with pytest.raises(CredentialsError):
            client.list_datasets()
        path.write_text(NEW)
        assert client.list_datasets()
        path.write_text("")
        assert client.list_datasets(), "a file that is being written"


def test_each_process_has_its_own_environment(
    protected: ServerProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    client = Client(protected.target)
    factory = client.triples_factory("world")
    sampler = factory.open_sampler()
    sampler.sample(POSITIVES, 0)
    torch_sampler = BernoulliNegativeSampler(factory)
    torch_sampler.sample(torch.from_numpy(np.array(POSITIVES)))
    for each in (client, factory, sampler, torch_sampler, factory.epochs(SamplerConfig())):
        pickled = pickle.dumps(each)
        assert NEW.encode() not in pickled
        assert NEW not in repr(each)
    program = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).list_datasets())"
    for token, told in ((OLD, "['world'"), ("", "CREDENTIALS"), (None, "NEGSERVE_TOKEN")):
        environment = {**os.environ, "NEGSERVE_TOKEN": token or ""}
        if token is None:
            del environment["NEGSERVE_TOKEN"]
        done = preloaded.run(
            ["-c", program, pickle.dumps(client).hex()], env=environment, timeout=60
        )  # fmt: skip
        assert (done.returncode == 0) == (token == OLD)
        assert told.replace("CREDENTIALS", "CredentialsError") in done.stdout + done.stderr
    client.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader(
    protected: ServerProcess, monkeypatch: pytest.MonkeyPatch, method: str
):
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    with Client(protected.target) as client:
        sampler = BernoulliNegativeSampler(client.triples_factory("world"), 5)
        # A spawned worker imports torch anew, and one shows that it gets the token.
        num_workers = 2 if method == "fork" else 1
        batches = list(loader_of(WithNegatives(sampler), method, num_workers=num_workers))
    assert torch.cat(batches).shape == (NUM_COPIES, 5, 3)


@pytest.mark.parametrize("token", ["a blank in it 0123456789", "schlüssel-0123456789", "a\x00b"])
def test_a_malformed_token_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
):
    path = tmp_path / "token"
    path.write_text(token)
    sources = {"NEGSERVE_TOKEN_FILE": str(path), "NEGSERVE_TOKEN": token}
    for name, value in sources.items():
        if "\x00" in value:
            continue  # no environment has it
        monkeypatch.setenv(name, value)
        with Client("127.0.0.1:1") as client, pytest.raises(CredentialsError) as caught:
            client.list_datasets()
        assert str(caught.value).startswith(name)
        assert token not in str(caught.value)
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"NEGSERVE_TOKEN": NEW, "NEGSERVE_TOKEN_FILE": "x"}, "are set; set one of them"),
        ({"NEGSERVE_TOKEN_FILE": "/nowhere"}, "NEGSERVE_TOKEN_FILE=/nowhere can't be read: No su"),
        ({"NEGSERVE_TOKEN_FILE": "EMPTY"}, "holds no token"),
        ({"NEGSERVE_TLS": "yes"}, "NEGSERVE_TLS=yes; set it to 1"),
        ({"NEGSERVE_CA_FILE": "/nowhere"}, "NEGSERVE_CA_FILE=/nowhere can't be read: No such"),
        ({"NEGSERVE_CA_FILE": "EMPTY"}, "no certificates in PEM"),
        ({"NEGSERVE_CERT_FILE": "CERT"}, "set both, or neither"),
        ({"NEGSERVE_KEY_FILE": "KEY"}, "set both, or neither"),
        ({"NEGSERVE_CERT_FILE": "CERT", "NEGSERVE_KEY_FILE": "OTHER"}, "not a certificate in PEM"),
        ({"NEGSERVE_CERT_FILE": "CERT", "NEGSERVE_KEY_FILE": "LOCKED"}, "the private key is encr"),
    ],
)
def test_an_illegal_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
):
    authority = Authority(tmp_path)
    cert, key = authority.issue("trainer")
    files = {"CERT": cert, "KEY": key, "OTHER": authority.issue("other")[1]}
    files["EMPTY"], files["LOCKED"] = str(tmp_path / "empty"), str(tmp_path / "locked")
    Path(files["EMPTY"]).write_text("# nothing\n")
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", files["LOCKED"]],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, files.get(value, value))
    begin = time.monotonic()
    with Client("127.0.0.1:1") as client, pytest.raises(CredentialsError) as caught:
        client.list_datasets()
    assert told in str(caught.value)
    with pytest.raises(CredentialsError):
        asyncio.run(use_all_of_aio("127.0.0.1:1"))
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "target",
    [
        "negserve.example:7733",
        "dns:///negserve.example:7733",
        "192.0.2.1:7733",
        "0.0.0.0:7733",
        "[2001:db8::1]:7733",
        "ipv4:127.0.0.1:7733,192.0.2.1:7733",
        "localhost.example:7733",
        "127.0.0.1.example:7733",
        "unixbox:7733",
    ],
)
def test_a_token_never_crosses_a_network_in_plain_text(
    monkeypatch: pytest.MonkeyPatch, target: str
):
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    begin = time.monotonic()
    with Client(target) as client, pytest.raises(CredentialsError, match="plain text") as caught:
        client.list_datasets()
    for part in (target, "NEGSERVE_CA_FILE", "NEGSERVE_TLS=1"):
        assert part in str(caught.value)
    with pytest.raises(CredentialsError, match="plain text"):
        asyncio.run(use_all_of_aio(target))
    assert time.monotonic() - begin < 5, "nothing was sent"


@pytest.mark.parametrize(
    "form",
    ["127.0.0.1:{}", "localhost:{}", "127.8.8.8:{}", "[::1]:{}", "ipv4:127.0.0.1:{}",
     "ipv6:[::1]:{}", "dns:///localhost:{}", "unix:/nowhere/{}"],
)  # fmt: skip
def test_within_a_machine_it_is_sent_in_plain_text(monkeypatch: pytest.MonkeyPatch, form: str):
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    target = form.format(free_port())
    # On a busy machine gRPC may not have tried the address by then.
    refused = (UnavailableError, StalledError)
    with Client(target, timeout=0.3) as client, pytest.raises(refused):
        client.list_datasets()


def test_a_token_in_plain_text_bypasses_proxies(
    protected: ServerProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        asked = threading.Event()

        def listen() -> None:
            try:
                connection, _ = proxy.accept()
            except OSError:
                return
            asked.set()
            connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        for name in ("http_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        with Client(protected.target, timeout=3) as client:
            assert "world" in client.list_datasets()
        proxy.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert not asked.is_set()


def test_tls(tls: Tls, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_CA_FILE", tls.authority.ca)
    with Client(tls.server.target) as client, pytest.raises(CredentialsError) as caught:
        client.list_datasets()
    assert caught.value.reason == "CREDENTIALS_MISSING"
    monkeypatch.setenv("NEGSERVE_TOKEN", NEW)
    for target in tls.server.addresses:  # the second is a unix socket, where there is no TLS
        with Client(target) as client:
            use_all(client)
        asyncio.run(use_all_of_aio(target))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "Socket closed; if the server has TLS, see docs/operations.md, Tokens and TLS"),
        ({"NEGSERVE_CA_FILE": "STRANGER"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"NEGSERVE_TLS": "1"}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_an_unknown_authority_is_named_in_time(
    tls: Tls, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, {"STRANGER": tls.stranger.ca}.get(value, value))
    begin = time.monotonic()
    with (
        Client(tls.server.target, timeout=5, patience=1) as client,
        pytest.raises(UnavailableError, match=told),
    ):
        client.list_datasets()

    async def ask() -> None:
        async with aio.Client(tls.server.target, timeout=5, patience=1) as client:
            await client.list_datasets()

    with pytest.raises(UnavailableError, match=told):
        asyncio.run(ask())
    assert time.monotonic() - begin < 8


def test_public_authorities_are_those_of_grpc(tls: Tls):
    """In a separate process, as gRPC reads them once."""
    program = f"import negserve; print(negserve.Client({tls.server.target!r}).list_datasets())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ, "NEGSERVE_TOKEN": NEW, "NEGSERVE_TLS": "1",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": tls.authority.ca,
        },
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "['world']" in done.stdout, done.stderr


def test_tls_to_a_server_without_ends_in_time(
    protected: ServerProcess, tls: Tls, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_CA_FILE", tls.authority.ca)
    with (
        Client(protected.target, timeout=5, patience=1) as client,
        pytest.raises(UnavailableError, match="WRONG_VERSION_NUMBER"),
    ):
        client.list_datasets()


def test_another_name_than_the_certificate_has(tls: Tls, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_CA_FILE", tls.authority.ca)
    target = tls.server.target.replace("127.0.0.1", "localhost")
    with (
        Client(target, timeout=5, patience=1) as client,
        pytest.raises(UnavailableError, match="Hostname Verification"),
    ):
        client.list_datasets()


def test_mutual_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = Authority(tmp_path / "servers")
    trainers, strangers = Authority(tmp_path / "trainers"), Authority(tmp_path / "strangers")
    cert, key = authority.issue("localhost")
    options = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", trainers.ca)
    monkeypatch.setenv("NEGSERVE_CA_FILE", authority.ca)
    with server_process(*options, listen=("localhost:0",)) as server:
        for issuer in (None, strangers, trainers):
            if issuer is not None:
                names = ("NEGSERVE_CERT_FILE", "NEGSERVE_KEY_FILE")
                for name, value in zip(names, issuer.issue("trainer"), strict=True):
                    monkeypatch.setenv(name, value)
            with Client(server.target, timeout=5, patience=1) as client:
                if issuer is trainers:
                    use_all(client)
                else:
                    with pytest.raises(UnavailableError, match=r"see docs/operations\.md"):
                        client.list_datasets()


def test_the_command_line(protected: ServerProcess):
    command = ["-m", "negserve.cli", "info", "--target", protected.target, "--json"]
    for token in (NEW, ""):
        done = preloaded.run(
            command, timeout=60,
            env={**os.environ, "NEGSERVE_TOKEN": token},
        )  # fmt: skip
        if token:
            assert json.loads(done.stdout)[0]["dataset"] == "world"
        else:
            assert done.returncode == 1
            assert "NEGSERVE_TOKEN" in done.stderr
            assert "Traceback" not in done.stderr
