"""A client that means harm, and what it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

_SERVICE = "/negserve.v1.SamplerService/"
_NUM_CALLS = 40
_NUM_STREAMS = 60
_TIMEOUT = 60
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
#: What is no HTTP/2, and what begins like it: a frame that has no end, one of an unknown type on a
#: stream that is not open, and settings of a wrong length.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
GARBAGE_FRAMES = (
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(range(256)) * 16,
    _PREFACE + b"\xff\xff\xff\0\0\0\0\0\1" + bytes(100),
    _PREFACE + _SETTINGS + b"\0\0\4\xee\xff\x7f\xff\xff\xffjunk",
    _PREFACE + b"\0\0\5\4\0\0\0\0\0junk!",
)

#: How many calls got a status, by reason; those without one by the name of the code.
Told = Counter[str]


def attack(target: str, token: str, authorities: bytes | None = None) -> Told:
    """Do all that is forbidden, and return what the server said.

    :param token: one that allows to sample
    :param authorities: who signed the server's certificate; None for plain text
    """
    if authorities is None:
        channel = grpc.insecure_channel(target, options=_OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(authorities)
        channel = grpc.secure_channel(target, credentials, options=_OPTIONS)
    metadata = (("authorization", f"Bearer {token}"),)
    with channel:
        return (
            _wrong_tokens(channel)
            + _garbage_messages(channel, metadata)
            + _large_messages(channel, metadata)
            + _streams(channel, metadata)
        )


def _wrong_tokens(channel: grpc.Channel) -> Told:
    stub = SamplerServiceStub(channel)
    wrong = [None, (("authorization", "Bearer wrong-0123456789abcdef"),)]
    request = pb.GetServerRequest()
    return _ends(
        [
            stub.GetServer.future(request, metadata=each, timeout=_TIMEOUT)
            for each in wrong * _NUM_CALLS
        ]
    )


def _garbage_messages(channel: grpc.Channel, metadata: Any) -> Told:
    call = channel.unary_unary(f"{_SERVICE}GetDataset")
    garbage = b"\xff\xff\xff\xffgarbage"
    return _ends(
        [call.future(garbage, metadata=metadata, timeout=_TIMEOUT) for _ in range(_NUM_CALLS)]
    )


def _ends(calls: Sequence[Any]) -> Told:
    return Counter(_reason(each.exception()) if each.exception() else "answered" for each in calls)


def _large_messages(channel: grpc.Channel, metadata: Any) -> Told:
    """Send more triples than a message may have, and more bytes."""
    column = pb.Ids(data=bytes(2**18 + 1), width=1)
    triples = pb.Triples(heads=column, relations=column, tails=column)
    many = pb.SampleRequest(positives=pb.Positives(triples=triples))
    column.data = bytes(2**24)  # and the message has more
    large = pb.SampleRequest(positives=pb.Positives(triples=pb.Triples(heads=column)))
    stub = SamplerServiceStub(channel)
    told: Told = Counter()
    for request in (many, large):
        requests = iter((_configuration(), request))
        told[_end(stub.Sample(requests, metadata=metadata, timeout=_TIMEOUT), 2)] += 1
    return told


def _streams(channel: grpc.Channel, metadata: Any) -> Told:
    """Open streams, send nothing more, and leave them all."""
    is_left = threading.Event()

    def requests() -> Iterator[pb.SampleRequest]:
        yield _configuration()
        is_left.wait(_TIMEOUT)

    stub = SamplerServiceStub(channel)
    streams = [
        stub.Sample(requests(), metadata=metadata, timeout=_TIMEOUT) for _ in range(_NUM_STREAMS)
    ]
    told = Counter(_end(each, 1) for each in streams)
    for each in streams:
        each.cancel()
    is_left.set()
    return told


def _configuration() -> pb.SampleRequest:
    sampler = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=4)
    return pb.SampleRequest(configuration=pb.SampleConfiguration(dataset="world", sampler=sampler))


def _end(stream: Any, num_answers: int) -> str:
    """Return why a stream ends; "answered" if it gives so many answers first."""
    try:
        for _ in range(num_answers):
            next(stream)
    except grpc.RpcError as error:
        return _reason(error)
    return "answered"


def _reason(error: Any) -> str:
    status = rpc_status.from_call(error)
    if status is None:
        return str(error.code().name)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


def send_garbage_frames(target: str, authorities: bytes | None = None) -> None:
    """Send what is no HTTP/2, each over a connection of its own, until the server closes it.

    :param authorities: as of :func:`attack`
    """
    host, _, port = target.rpartition(":")
    for garbage in GARBAGE_FRAMES:
        with _connect(host, int(port), authorities) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            except (ConnectionError, ssl.SSLError):
                continue


def _connect(host: str, port: int, authorities: bytes | None) -> socket.socket:
    connection = socket.create_connection((host, port), _TIMEOUT)
    if authorities is None:
        return connection
    context = ssl.create_default_context(cadata=authorities.decode())
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection, server_hostname=host)
