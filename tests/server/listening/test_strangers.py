"""Connections of strangers end, and nothing is described to them."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from negserve import Client
from tests.server.messages import CODE, TIMEOUT
from tests.support.certificates import Authority
from tests.support.server_process import server_process

#: The preface of HTTP/2, and a frame of settings without any.
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "sent", [b"", HTTP2, b"GET / HTTP/1.1\r\n"], ids=["nothing", "HTTP/2", "1.1"]
)
@pytest.mark.parametrize("tls", [False, True])
def test_connections_without_calls_are_closed(tmp_path: Path, sent: bytes, tls: bool):
    # Sooner than a connection that answers no ping of the server would be, in any case.
    seconds = 25
    options = ["--connection-idle-seconds", "1"]
    if tls:
        cert, key = Authority(tmp_path).issue("127.0.0.1")
        options += ["--tls-cert", cert, "--tls-key", key]
    with server_process(*options) as server:
        host, _, port = server.target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=seconds) as stranger:
            stranger.sendall(sent)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionResetError:
                pass


def test_a_client_that_pauses_connects_again(tmp_path: Path):
    with (
        server_process("--connection-idle-seconds", "1") as server,
        Client(server.target, timeout=20) as client,
    ):
        assert client.list_datasets() == ["world"]
        host, _, port = server.target.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as clock:
            clock.sendall(HTTP2)  # opened later, so closed later than the client's
            while clock.recv(4096):
                pass
        assert client.list_datasets() == ["world"]


@pytest.mark.parametrize("options", [(), ("--no-reflection",)])
def test_reflection_can_be_switched_off(options: tuple[str, ...]):
    with server_process(*options) as server, grpc.insecure_channel(server.target) as channel:
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=TIMEOUT
        )
        if options:
            with pytest.raises(grpc.RpcError) as caught:
                next(answers)
            assert caught.value.code() is CODE.UNIMPLEMENTED
        else:
            assert next(answers).list_services_response.service
