"""Sample from a server and check every negative; the client of docker-compose.yml.

Needs only negserve, without torch. NEGSERVE_TARGET has addresses of replicas. The exit status is 0
only if all promises about the negatives hold.
"""

from __future__ import annotations

import os
import sys

import numpy as np
from numpy.typing import NDArray

from negserve import Client, NegserveError, RemoteTriplesFactory
from negserve.types.config import Split
from negserve.types.kinds import Kind

DATASET = "world"
KINDS: tuple[Kind, ...] = ("basic", "bernoulli", "pseudotyped")
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")
NUM_NEGS_PER_POS = 64
NUM_RANDOM_HEADS = 500
KNOWN = (
    ("Germany", "has_capital", "Berlin"),
    ("Australia", "has_capital", "Canberra"),
    ("France", "shares_border_with", "Germany"),
    ("Danube", "flows_through", "Austria"),
    ("Japan", "drives_on", "Left-hand traffic"),
    ("Kenya", "located_in_continent", "Africa"),
    ("Brazil", "has_official_language", "Portuguese language"),
)
#: Pairs that so many heads are known for that a sampler without a filter would soon draw one.
HUBS = (("member_of", "United Nations"), ("drives_on", "Right-hand traffic"))


def main() -> None:
    """Check each kind of sampler, and print what it drew."""
    targets = os.environ.get("NEGSERVE_TARGET", "127.0.0.1:7733").split(",")
    with Client(targets) as client:
        factory = client.triples_factory(DATASET)
        print(factory)
        known = np.array([to_ids(factory, *labels) for labels in KNOWN])
        expect(factory.contains(known, SPLITS).all(), "true triples are known")
        expect(factory.contains(known[:1], SPLITS).all(), "a true triple is known")
        hubs = np.array([to_ids(factory, KNOWN[0][0], *labels) for labels in HUBS])
        hubs = np.repeat(hubs, NUM_RANDOM_HEADS, axis=0)
        hubs[:, 0] = np.random.default_rng(0).integers(factory.num_entities, size=len(hubs))
        for kind in KINDS:
            check_sampler(factory, kind, np.concatenate([known, hubs]))


def to_ids(
    factory: RemoteTriplesFactory, head: str, relation: str, tail: str
) -> tuple[int, int, int]:
    """Look up the ids of labels."""
    return (
        factory.entity_to_id[head],
        factory.relation_to_id[relation],
        factory.entity_to_id[tail],
    )


def check_sampler(factory: RemoteTriplesFactory, kind: Kind, positives: NDArray[np.int64]) -> None:
    """Draw negatives, hold them against what is promised, and print some."""
    sampler = factory.open_sampler(
        kind=kind, num_negs_per_pos=NUM_NEGS_PER_POS, filter_splits=SPLITS
    )
    batch = sampler.sample(positives, position=0)
    negatives = batch.triples(positives)
    expect(negatives.shape == (len(positives), NUM_NEGS_PER_POS, 3), f"{kind}: exactly k each")
    expect(
        ((negatives != positives[:, None]).sum(axis=2) == 1).all(),
        f"{kind}: exactly one slot differs",
    )
    sizes = (factory.num_entities, factory.num_relations, factory.num_entities)
    expect((negatives < sizes).all(), f"{kind}: every id is legal")
    assert batch.mask is not None, "a filtered sampler gives a mask"
    valid = negatives[batch.mask]
    expect(batch.mask[: len(KNOWN)].any(axis=1).all(), f"{kind}: the true triples have negatives")
    expect(not factory.contains(valid, SPLITS).any(), f"{kind}: no negative is a known triple")
    i = len(KNOWN) - 1
    alone = sampler.sample(positives[i : i + 1], position=i)
    expect(
        np.array_equal(alone.triples(positives[i : i + 1])[0], negatives[i]),
        f"{kind}: a positive gets the same negatives alone as in a batch",
    )
    sampler.close()

    print(f"{kind}: {len(valid):,} negatives of {len(positives):,} positives, none known, such as")
    for h, r, t in negatives[:4, [0, -1]].reshape(-1, 3):
        labels = factory.entity_labels[h], factory.relation_labels[r], factory.entity_labels[t]
        print("   ", *labels, sep="  ")


def expect(holds: np.bool_ | bool, promise: str) -> None:
    """Stop with a message if a promise is broken."""
    if not holds:
        sys.exit(f"client: BROKEN: {promise}")


if __name__ == "__main__":
    try:
        main()
    except (NegserveError, KeyError) as error:
        sys.exit(f"client: {type(error).__name__}: {error}")
    print("client: everything promised holds")
