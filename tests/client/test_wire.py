"""Messages keep what is put into them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve import InvalidRequestError, SamplerConfig, wire
from negserve_server.errors import InvalidInput
from negserve_server.sampling import CorruptedBatch
from negserve_server.sampling import SamplerConfig as ServerConfig
from negserve_server.service import Limits
from negserve_server.service import wire as server_wire

LIMITS = Limits()


@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
        max_size=20,
    ),
    num_entities=st.integers(1, 2**32),
)
def test_triples_arrive_even_where_they_are_out_of_range(rows, num_entities):  # type: ignore[no-untyped-def]
    triples = np.array(rows, dtype=np.int64).reshape(-1, 3)
    message = wire.encode_triples(triples, num_entities, 5)
    np.testing.assert_array_equal(server_wire.decode_triples(message, LIMITS), triples)


@given(st.integers(1, 2**32))
def test_ids_travel_in_the_narrowest_width(num_ids: int):
    message = wire.encode_ids(np.array([num_ids - 1]), num_ids)
    assert message.width == (1 if num_ids <= 2**8 else 2 if num_ids <= 2**16 else 4)


@given(
    kind=st.sampled_from(["basic", "bernoulli", "pseudotyped"]),
    k=st.integers(1, 2**16),
    scheme=st.sampled_from([("head",), ("tail",), ("head", "tail")]),
    splits=st.sets(st.sampled_from(["training", "validation", "testing"])),
    seed=st.integers(0, 2**64 - 1),
)
def test_configurations_arrive(kind, k, scheme, splits, seed):  # type: ignore[no-untyped-def]
    options = {
        "kind": kind,
        "num_negs_per_pos": k,
        "corruption_scheme": scheme,
        "filter_splits": tuple(splits),
        "seed": seed,
    }
    message = wire.encode_config(SamplerConfig(**options))
    decoded = server_wire.decode_config(message, LIMITS)
    assert decoded == ServerConfig(**options)
    assert server_wire.decode_config(server_wire.encode_config(decoded), LIMITS) == decoded


@given(
    n=st.integers(0, 5),
    k=st.integers(1, 300),
    dtype=st.sampled_from([np.uint8, np.uint16, np.uint32]),
    filtered=st.booleans(),
    data=st.data(),
)
def test_batches_arrive(n, k, dtype, filtered, data):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    heads = rng.integers(0, k + 1, n, dtype=np.uint32)
    relations = rng.integers(0, k + 1 - heads, dtype=np.uint32, size=n)
    saturated = rng.random(n) < 0.5
    sent = CorruptedBatch(
        position=data.draw(st.integers(0, 2**64 - 1)),
        replaced=rng.integers(0, np.iinfo(dtype).max, (n, k), dtype=dtype, endpoint=True),
        head_counts=heads,
        relation_counts=relations,
        mask=np.repeat(~saturated[:, None], k, axis=1) if filtered else None,
        num_saturated=int(saturated.sum()),
    )
    config = SamplerConfig(num_negs_per_pos=k, filter_splits=("training",) if filtered else ())
    received = wire.decode_batch(server_wire.encode_batch(sent), config)
    assert received.position == sent.position
    assert received.num_saturated == sent.num_saturated
    assert received.replaced.dtype == dtype
    for field in ("replaced", "head_counts", "relation_counts"):
        np.testing.assert_array_equal(getattr(received, field), getattr(sent, field))
    if filtered:
        np.testing.assert_array_equal(received.mask, sent.mask)
    else:
        assert received.mask is None


@given(st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_any_bytes_and_width_are_ids_or_refused(data: bytes, width: int):
    message = server_wire.pb.Ids(data=data, width=width)
    try:
        ids = server_wire.decode_ids(message, "heads")
    except InvalidInput as error:
        assert error.reason == "INVALID_ID_WIDTH"
        assert error.metadata["field"].startswith("heads.")
        assert width not in (1, 2, 4, 8) or len(data) % width
    else:
        assert len(ids) * width == len(data) or not data


def test_numbers_that_fit_no_message_are_refused():
    with pytest.raises(InvalidRequestError, match="seed"):
        wire.encode_config(SamplerConfig(seed=-1))
    with pytest.raises(InvalidRequestError, match="num_negs_per_pos"):
        wire.encode_config(SamplerConfig(num_negs_per_pos=2**32))


def test_compact_batches_rebuild_triples():
    from negserve import CorruptedBatch as Batch

    batch = Batch(
        position=0,
        replaced=np.array([[7, 8, 9], [7, 8, 9]], dtype=np.uint8),
        head_counts=np.array([1, 0], dtype=np.uint8),
        relation_counts=np.array([1, 0], dtype=np.uint8),
        mask=None,
        num_saturated=0,
    )
    assert batch.slots().tolist() == [[0, 1, 2], [2, 2, 2]]
    assert batch.triples(np.array([[1, 2, 3], [4, 5, 6]])).tolist() == [
        [[7, 2, 3], [1, 8, 3], [1, 2, 9]],
        [[4, 5, 7], [4, 5, 8], [4, 5, 9]],
    ]
