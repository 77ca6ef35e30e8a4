"""The status of a server as an object for JSON: numbers are numbers, whatever their size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from negserve._admin.server_rates import MessageMeans, Rates
from negserve.v1 import admin_pb2 as pb

_PLAIN = {"rpcs", "datasets", "peers", "other_peers"}


def status_object(status: pb.GetServerStatusResponse, rates: Rates) -> dict[str, Any]:
    """Make the object: the fields of the message, by name, RPCs by name, rates, mean times.

    :param rates: a rate or mean that is not known is None
    """
    return {
        **_scalars(status),
        "negatives_per_second": rates.negatives,
        "datasets": [
            {
                **_scalars(each),
                "negatives_per_second": rates.negatives_of.get(each.name),
                "requests_per_second": rates.requests_of.get(each.name),
                **_means(rates.means_of.get(each.name)),
                "rpcs": _rpcs(each.rpcs),
            }
            for each in status.datasets
        ],
        "peers": [
            {
                **peer_object(each),
                "negatives_per_second": rates.negatives_for.get((each.caller, each.address)),
                **_means(rates.means_for.get((each.caller, each.address))),
            }
            for each in status.peers
        ],
        "other_peers": peer_object(status.other_peers) if status.num_other_peers else None,
        "rpcs": _rpcs(status.rpcs),
    }


def peer_object(peer: pb.PeerStatus) -> dict[str, Any]:
    """Make the object of one peer: its fields, and its open calls by dataset."""
    return {
        **_scalars(peer),
        "datasets": {each.name: each.num_streams for each in peer.datasets},
    }


def _means(means: MessageMeans | None) -> dict[str, float | None]:
    return {
        "queue_ms_per_message": None if means is None else means.queue_ms,
        "make_ms_per_message": None if means is None else means.make_ms,
    }


def _rpcs(rpcs: Iterable[pb.RpcStatus]) -> dict[str, Any]:
    return {
        each.rpc: {"num_calls": each.num_calls, "num_requests": each.num_requests} for each in rpcs
    }


def _scalars(message: Message) -> dict[str, Any]:
    return {
        field.name: getattr(message, field.name)
        for field in message.DESCRIPTOR.fields
        if field.name not in _PLAIN
    }
