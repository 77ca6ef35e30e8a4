"""What gRPC itself does with connections and calls."""

from __future__ import annotations

from negserve_server.config.limits import MAX_REQUEST_BYTES, Limits

#: Calls that wait until the server begins with them, of all connections together. Each takes some
#: kilobytes.
_MOST_WAITING_CALLS = 2**16
#: Of TLS, and until a client says what HTTP/2 it speaks.
_MOST_HANDSHAKE_SECONDS = 10.0
#: Longer than any client waits.
_LONGEST_WAIT_SECONDS = 24 * 3600


def channel_options(
    limits: Limits, connection_idle_seconds: float, *, is_shared: bool = False
) -> tuple[tuple[str, int], ...]:
    """Give the options of a server.

    Where many calls wait to be begun, or some for 30 seconds, gRPC ends calls of whoever comes next
    with CANCELLED and no reason, unless told otherwise. Here each call is begun, and then answered
    or refused in our words; what a connection may have waiting is bounded by its streams.

    :param connection_idle_seconds: after which a connection without calls is closed
    :param is_shared: whether other processes of this server listen at the same addresses
    """
    return (
        # A second server on the same port is an error, not a lottery: see ReservedAddress.
        ("grpc.so_reuseport", int(is_shared)),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        ("grpc.max_connection_idle_ms", round(1000 * connection_idle_seconds)),
        (
            "grpc.server_handshake_timeout_ms",
            round(1000 * min(connection_idle_seconds, _MOST_HANDSHAKE_SECONDS)),
        ),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # Of those that hear in our words that they are too many, too.
        ("grpc.max_concurrent_streams", 2 * limits.max_streams_per_connection),
        ("grpc.server.max_pending_requests", _MOST_WAITING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_WAITING_CALLS),
        ("grpc.server_max_unrequested_time_in_server", _LONGEST_WAIT_SECONDS),
    )
