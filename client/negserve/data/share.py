"""What of an epoch is streamed for a reader, and which readers get nothing."""

from __future__ import annotations

from dataclasses import replace

from negserve.data.reader import Reader
from negserve.errors import InvalidRequestError
from negserve.types.epoch import EpochConfig


def check_reader(reader: Reader, config: EpochConfig, form: str, *, has_own_rank: bool) -> None:
    """Refuse a reader that would lose or repeat batches.

    :param form: of the stream's items
    :param has_own_rank: whether the stream took its rank from the launch, and may take another
    :raises InvalidRequestError: with what can be done
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
            f"rank={config.rank}, world_size={config.world_size}, of which accelerate's dispatcher "
            f"would give each rank a part again; give neither, or use negserve.data.TripleLoader"
        )
    if config.tail == "wrap":
        raise InvalidRequestError(
            "tail='wrap'; accelerate's dispatcher fills the last batch in a way of its own: give "
            "tail='drop', or use negserve.data.TripleLoader"
        )


def share_of(
    reader: Reader, config: EpochConfig, num_positives: int, start: int
) -> tuple[EpochConfig, int]:
    """Give what is to be streamed for a reader, and where the epoch ends for it.

    :param num_positives: of an epoch
    :param start: where the pass begins
    :raises InvalidRequestError: if the reader would repeat or lose triples
    """
    left = max(num_positives - start, 0)
    if start and reader.skips:
        raise InvalidRequestError(
            f"the stream's state is start={start}, and the loader would skip {reader.skips} "
            f"batches more; use either load_state_dict or skip_first_batches"
        )
    if reader.num_ranks > 1:
        config = replace(config, rank=0, world_size=1)
        if left % reader.num_ranks and config.tail == "short":
            raise InvalidRequestError(
                f"accelerate's dispatcher would repeat triples: {left} don't divide by "
                f"{reader.num_ranks} ranks; give tail='drop', or use negserve.data.TripleLoader, "
                f"which repeats none"
            )
    stride = config.batch_size * config.world_size * reader.num_ranks
    return config, start + left // stride * stride if config.tail == "drop" else num_positives


def num_batches(reader: Reader, config: EpochConfig, num_positives: int) -> int:
    """Tell how many batches a reader is given of a whole epoch."""
    if reader.num_ranks > 1:
        config = replace(config, rank=0, world_size=1)
    stride = config.batch_size * config.world_size
    if config.tail == "drop":
        return num_positives // (stride * reader.num_ranks) * reader.num_ranks
    return (num_positives + stride - 1) // stride
