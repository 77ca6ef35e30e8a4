"""Which part of an epoch a reader gets, and which readers are refused."""

from __future__ import annotations

from dataclasses import replace

from negserve.data.reader import Reader
from negserve.errors import InvalidRequestError
from negserve.types.epoch import EpochConfig


def check_reader(reader: Reader, config: EpochConfig, form: str, *, has_own_rank: bool) -> None:
    """Refuse a reader that would lose or repeat batches.

    :param form: form of the stream's items
    :param has_own_rank: whether the stream found its rank by itself, and so may take another one
    :raises InvalidRequestError: with the remedy
    """
    if reader.refusal is not None:
        raise InvalidRequestError(reader.refusal)
    if reader.num_ranks == 1:
        return
    if form != "tuple":
        raise InvalidRequestError(
            f"form={form!r}; accelerate's dispatcher splits tuples only: give form='tuple', or use "
            f"negserve.data.TripleLoader"
        )
    if config.world_size > 1 and not has_own_rank:
        raise InvalidRequestError(
            f"rank={config.rank}, world_size={config.world_size}; accelerate's dispatcher would "
            f"split that share again: give neither, or use negserve.data.TripleLoader"
        )
    if config.tail == "wrap":
        raise InvalidRequestError(
            "tail='wrap'; accelerate's dispatcher fills the last batch its own way: give "
            "tail='drop', or use negserve.data.TripleLoader"
        )


def share_of(
    reader: Reader, config: EpochConfig, num_positives: int, start: int
) -> tuple[EpochConfig, int]:
    """Return the epoch configuration for a reader, and the position where its epoch ends.

    :param num_positives: number of positives in an epoch
    :param start: where the pass begins
    :raises InvalidRequestError: if the reader would repeat or lose triples
    """
    left = max(num_positives - start, 0)
    if start and reader.skips:
        raise InvalidRequestError(
            f"the stream's state is start={start}, and the loader would skip {reader.skips} more "
            f"batches; use either load_state_dict or skip_first_batches"
        )
    if reader.num_ranks > 1:
        config = replace(config, rank=0, world_size=1)
        if left % reader.num_ranks and config.tail == "short":
            raise InvalidRequestError(
                f"accelerate's dispatcher would repeat triples: {left} positives are not divisible "
                f"by {reader.num_ranks} ranks; give tail='drop', or use "
                f"negserve.data.TripleLoader, which repeats none"
            )
    stride = config.batch_size * config.world_size * reader.num_ranks
    return config, start + left // stride * stride if config.tail == "drop" else num_positives


def num_batches(reader: Reader, config: EpochConfig, num_positives: int) -> int:
    """Return how many batches of a whole epoch a reader gets."""
    if reader.num_ranks > 1:
        config = replace(config, rank=0, world_size=1)
    stride = config.batch_size * config.world_size
    if config.tail == "drop":
        return num_positives // (stride * reader.num_ranks) * reader.num_ranks
    return (num_positives + stride - 1) // stride
