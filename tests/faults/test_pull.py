"""Downloads of snapshots that are cut, killed, altered or short of space: continued, not halved."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import Client, InvalidAnswerError, LocalStorageError, NotAllowedError
from negserve.errors import ServerFaultError, UnavailableError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support import preloaded
from tests.support.children.lying_server import change, lying_server, setting
from tests.support.preloaded import PreloadedProcess
from tests.support.programs.tcp_proxy import TcpProxy
from tests.support.repositories import graph, wait_for
from tests.support.server_process import ServerProcess, server_process

#: What of a stream may be on the way besides what has arrived: messages, headers, manifests.
SLACK = 600_000


@pytest.fixture(scope="module")
def built() -> TriplesFactory:
    return graph(1, num_triples=300_000)


@pytest.fixture
def folder(tmp_path: Path, built: TriplesFactory) -> Path:
    """The server's snapshot, of some megabytes."""
    write_snapshot(built.parts, tmp_path / "served", made={})
    return tmp_path / "served"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


@contextmanager
def serving(folder: Path, *options: str, address: str = "127.0.0.1:0") -> Iterator[ServerProcess]:
    with server_process(
        "--dataset", f"kg={folder}", "--allow-pull", "--threads", "1", *options, listen=(address,)
    ) as server:
        yield server


def assert_equal_folders(found: Path, expected: Path) -> None:
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in found.iterdir()) == names
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def unfinished(final: Path) -> list[Path]:
    return list(final.parent.glob(f"{final.name}.*.partial"))


def arrived_of(final: Path) -> int:
    (aside,) = unfinished(final)
    return sum(path.stat().st_size for path in aside.glob("*.npy*"))


def at(part: float, total: int, then: Callable[[], object]) -> Callable[[int, int], None]:
    """Make a callback that does something once that part of a download has arrived."""
    is_done = False

    def on_bytes(arrived: int, of: int) -> None:
        nonlocal is_done
        assert of == total
        if arrived >= part * total and not is_done:
            is_done = True
            then()

    return on_bytes


def test_a_killed_server_that_comes_back_sends_the_rest(tmp_path: Path, folder: Path):
    final = tmp_path / "copy"
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder))
        proxy = TcpProxy(server.target)
        stack.callback(proxy.close)
        client = stack.enter_context(Client(proxy.target, timeout=20, patience=60))

        def restart() -> None:
            assert not final.exists()
            server.kill()
            again = stack.enter_context(serving(folder))
            proxy.lead_to(again.target)

        proxy.cut_after(size(folder) // 2, restart)
        client.pull("kg", final)
        assert proxy.struck.is_set()
        # What a busy client has received and not read is lost with the connection. From its
        # beginning, the download would be half as much again.
        assert proxy.num_bytes < 1.4 * size(folder)
    assert_equal_folders(final, folder)
    assert not unfinished(final)


def test_a_replica_with_the_same_snapshot_sends_the_rest(tmp_path: Path, folder: Path):
    other = tmp_path / "other machine" / "served"
    shutil.copytree(folder, other)
    with (
        serving(folder) as one,
        serving(other) as two,
        Client([one.target, two.target], timeout=20, patience=60) as client,
    ):
        client.pull("kg", tmp_path / "copy", on_bytes=at(0.05, size(folder), one.kill))
        assert client.target == two.target
    assert_equal_folders(tmp_path / "copy", folder)


def test_a_replica_with_another_snapshot_of_the_graph_sends_all_of_that(
    tmp_path: Path, folder: Path, built: TriplesFactory
):
    other = tmp_path / "other"
    write_snapshot(built.parts, other, made={"by": "another build"})
    with (
        serving(folder) as one,
        serving(other) as two,
        Client([one.target, two.target], timeout=20, patience=60) as client,
    ):
        client.pull("kg", tmp_path / "copy", on_bytes=at(0.05, size(folder), one.kill))
    assert_equal_folders(tmp_path / "copy", other)


def test_a_killed_client_that_comes_back_gets_the_rest(tmp_path: Path, folder: Path):
    final = tmp_path / "copy"
    with serving(folder) as server:
        proxy = TcpProxy(server.target)
        try:
            proxy.silence_after(size(folder) // 2)
            command = ["-m", "negserve.cli", "pull", "--target", proxy.target, "kg", str(final)]
            killed = PreloadedProcess(command)
            assert proxy.struck.wait(60)
            wait_for(lambda: arrived_of(final) > size(folder) // 4)
            killed.send_signal(signal.SIGKILL)
            killed.wait(30)
            arrived = arrived_of(final)
            assert not final.exists()
            proxy.lead_to(server.target)
            before = proxy.num_bytes
            result = preloaded.run(command, timeout=60)
            assert result.returncode == 0, result.stderr
            assert proxy.num_bytes - before < size(folder) - arrived + SLACK
        finally:
            proxy.close()
    assert_equal_folders(final, folder)
    assert not unfinished(final)


def flip(message: Any) -> None:
    data = bytearray(message.piece.data)
    data[-1] ^= 1
    message.piece.data = bytes(data)


def test_altered_bytes_are_refused_and_the_file_is_sent_again(tmp_path: Path, folder: Path):
    final = tmp_path / "copy"
    with (
        serving(folder) as server,
        lying_server(server.target) as liar,
        Client(liar.target, timeout=20, patience=60) as client,
    ):
        liar.lies["GetSnapshot"] = change(flip, at=1)
        with pytest.raises(InvalidAnswerError, match="SHA-256"):
            client.pull("kg", final)
        assert not final.exists()
        liar.lies.clear()
        client.pull("kg", final)
    assert_equal_folders(final, folder)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("piece.array", "../../evil", "piece.array"),
        ("piece.offset", 1, "piece.offset"),
        ("piece.data", b"", "piece.data, bytes"),
        ("piece.data", b"x" * (256 * 1024 + 1), "piece.data, bytes"),
    ],
)
def test_pieces_that_are_not_due_are_refused(
    tmp_path: Path, folder: Path, path: str, value: object, field: str
):
    with serving(folder) as server, lying_server(server.target) as liar:
        liar.lies["GetSnapshot"] = setting(path, value, at=1)
        with (
            Client(liar.target, timeout=20, patience=60) as client,
            pytest.raises(InvalidAnswerError) as refused,
        ):
            client.pull("kg", tmp_path / "copy")
    assert refused.value.metadata["field"] == field
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"training.heads"', b'"../../../evil"'),
        (b'"training.heads"', b'"/etc/passwd"'),
        (b'"num_bytes": ', b'"num_bytes": -'),
        (b'"sha256": "', b'"sha256": "x'),
        (b'"format": "negserve snapshot"', b'"format": "something else"'),
        (b'"fingerprint": "', b'"fingerprint": "0'),
        (b"{", b"["),
    ],
)
def test_manifests_that_lie_are_refused(tmp_path: Path, folder: Path, old: bytes, new: bytes):
    def edit(message: Any) -> None:
        assert old in message.manifest.json
        message.manifest.json = message.manifest.json.replace(old, new)

    with serving(folder) as server, lying_server(server.target) as liar:
        liar.lies["GetSnapshot"] = change(edit)
        with (
            Client(liar.target, timeout=20, patience=60) as client,
            pytest.raises(InvalidAnswerError, match=r"manifest\.json"),
        ):
            client.pull("kg", tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"served"}


def test_a_truncated_copy_is_downloaded_again(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
):
    cache = tmp_path / "cache"
    with serving(folder) as server, lying_server(server.target) as elsewhere:
        elsewhere.lies["GetSnapshot"] = setting("manifest.folder", "/nowhere")
        with Client(elsewhere.target, timeout=20, patience=60) as client:
            first = client.triples_factory("kg", compute="client", cache_dir=cache)
            os.truncate(first.folder / "training.heads.npy", 100)
            with caplog.at_level(logging.WARNING):
                second = client.triples_factory("kg", compute="client", cache_dir=cache)
    assert "is damaged, and is downloaded again" in caplog.text
    assert_equal_folders(second.folder, folder)


def test_another_manifest_at_the_server_s_path_is_not_mapped(
    tmp_path: Path, folder: Path, built: TriplesFactory
):
    """As in another container: the path is there, and is something else."""
    other = tmp_path / "other"
    write_snapshot(built.parts, other, made={"by": "another build"})
    with serving(folder) as server, lying_server(server.target) as elsewhere:
        elsewhere.lies["GetSnapshot"] = setting("manifest.folder", str(other))
        with Client(elsewhere.target, timeout=20, patience=60) as client:
            factory = client.triples_factory("kg", compute="client", cache_dir=tmp_path / "cache")
    assert factory.folder.parent == tmp_path / "cache"
    assert_equal_folders(factory.folder, folder)


def test_processes_that_pull_at_once_download_once(tmp_path: Path, folder: Path):
    final = tmp_path / "copy"
    with serving(folder) as server, ThreadPoolExecutor(3) as pool:
        proxy = TcpProxy(server.target)
        try:
            command = ["-m", "negserve.cli", "pull", "--target", proxy.target, "kg", str(final)]
            ran = list(pool.map(lambda _: preloaded.run(command, timeout=100), range(3)))
            assert [result.returncode for result in ran] == [0, 0, 0], [r.stderr for r in ran]
            assert proxy.num_bytes < size(folder) + SLACK
        finally:
            proxy.close()
    assert_equal_folders(final, folder)
    assert not unfinished(final)


def test_a_full_disk_is_told_and_the_rest_comes_once_there_is_room(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    final = tmp_path / "copy"
    largest = max(path.stat().st_size for path in folder.glob("*.npy"))
    with serving(folder) as server, Client(server.target, timeout=20, patience=60) as client:
        # The system refuses to write more, as if the disk were full.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1000, before[1]))
        try:
            with pytest.raises(LocalStorageError, match="free space there") as refused:
                client.pull("kg", final)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert refused.value.errno is not None
        assert not final.exists()
        arrived = arrived_of(final)
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(LocalStorageError, match="1000 are free"):
            client.pull("kg", final)
        monkeypatch.undo()
        first: list[int] = []
        client.pull("kg", final, on_bytes=lambda arrived, _: first.append(arrived))
        assert first[0] >= arrived
    assert_equal_folders(final, folder)


def test_what_is_there_is_not_overwritten(tmp_path: Path, folder: Path):
    final = tmp_path / "copy"
    final.mkdir()
    (final / "thesis.tex").write_text("years of work")
    with serving(folder) as server, Client(server.target) as client:
        with pytest.raises(LocalStorageError, match="something else"):
            client.pull("kg", final)
        (tmp_path / "file").write_text("")
        with pytest.raises(LocalStorageError, match="something else"):
            client.pull("kg", tmp_path / "file")
    assert (final / "thesis.tex").read_text() == "years of work"


def test_a_snapshot_that_was_exchanged_under_the_server_is_not_sent(tmp_path: Path, folder: Path):
    with serving(folder) as server, Client(server.target, timeout=5, patience=5) as client:
        folder.rename(tmp_path / "moved")
        with pytest.raises(NotAllowedError) as gone:
            client.pull("kg", tmp_path / "copy")
        assert gone.value.reason == "NO_SNAPSHOT"
        write_snapshot(graph(2).parts, folder, made={})
        with pytest.raises(ServerFaultError) as exchanged:
            client.pull("kg", tmp_path / "copy")
        assert exchanged.value.reason == "SNAPSHOT_UNUSABLE"


def test_a_dataset_read_from_text_has_none_without_a_cache(tmp_path: Path):
    text = tmp_path / "train.txt"
    rows = np.random.default_rng(0).integers(0, 50, (500, 3))
    text.write_text("".join(f"e{h}\tr{r}\te{t}\n" for h, r, t in rows))
    with serving(text) as server, Client(server.target) as client:
        with pytest.raises(NotAllowedError, match="--cache-dir") as refused:
            client.pull("kg", tmp_path / "copy")
        assert refused.value.reason == "NO_SNAPSHOT"
        assert set(refused.value.metadata) == {"value", "expected"}
    with (
        serving(text, "--cache-dir", str(tmp_path / "cache")) as server,
        Client(server.target) as client,
    ):
        client.pull("kg", tmp_path / "copy")
    assert TriplesFactory.from_snapshot(tmp_path / "copy").num_triples > 400


def test_a_server_that_is_gone_is_waited_for_as_long_as_patience_lasts(
    tmp_path: Path, folder: Path
):
    with (
        serving(folder) as server,
        Client(server.target, timeout=5, patience=1) as client,
        pytest.raises(UnavailableError),
    ):
        client.pull("kg", tmp_path / "copy", on_bytes=at(0.1, size(folder), server.kill))
    assert not (tmp_path / "copy").exists()
