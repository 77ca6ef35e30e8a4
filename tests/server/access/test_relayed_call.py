"""A call that a worker passes on keeps its caller, its connection and its id in the log."""

from __future__ import annotations

from negserve_server.access.relayed_call import RelayedCall, relayed_call


def test_the_next_worker_reads_what_the_first_one_tells():
    call = RelayedCall("CN=a b, O=c", "ipv6:%5B::1%5D:4711", "0123456789abcdef")
    assert relayed_call(call.metadata()) == call


def test_callers_are_not_told_apart_without_credentials():
    call = RelayedCall("", "unix", "0123456789abcdef")
    assert relayed_call((("other", "x"), *call.metadata())) == call


def test_who_does_not_know_the_secret_is_not_believed():
    ((key, value),) = RelayedCall("admin", "unix", "0123456789abcdef").metadata()
    assert relayed_call(((key, value.replace(value[:4], "zzzz")),)) is None
    assert relayed_call(None) is None
