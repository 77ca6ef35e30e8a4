"""The options about files of triples: what they do not say themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from negserve_server.config.option import check_bounds, option


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read; fields as those of :class:`.ReadOptions`, whose defaults are the same.

    The help of an option says what the field means.
    """

    columns: tuple[str, ...] | None = option(
        "C,C,C",
        help="Names or places (from 1 on) of head, relation and tail; or the words head, relation "
        "and tail in the order of the columns.",
        see="reading-options",
    )
    separator: str | None = option(
        "CHAR",
        default_text="by the ending of the file",
        help="What stands between fields: tab, space, comma, semicolon, pipe, or what is given.",
    )
    header: bool | None = option(
        "YES|NO",
        default_text="by usual names",
        off="no-header",
        help="The first line names the columns, or is a triple.",
    )
    ids: bool | None = option("YES|NO", off="labels", help="Integers are ids, or only names.")
    entity_ids: Path | None = option("FILE", help="File of the ids of entities.")
    relation_ids: Path | None = option("FILE", help="File of the ids of relations.")
    strip: bool | None = option(
        "YES|NO", off="no-strip", help="Drop blanks around labels, or tell labels by them."
    )
    normalize: bool | None = option(
        "YES|NO",
        off="no-normalize",
        help="Bring labels into the normal form NFC, or tell labels by their Unicode form.",
    )
    skip_bad: bool = option("FLAG", False, help="Leave out lines that can't be read.")
    fractions: tuple[float, float, float] | None = option(
        "F,F,F",
        help="Divide the triples into training, validation and testing, such as 0.8,0.1,0.1.",
    )
    seed: int = option(
        "N", 0, least=0, most=2**64 - 1, help="Seed of the division by `--fractions`."
    )

    def __post_init__(self) -> None:
        check_bounds(self)
