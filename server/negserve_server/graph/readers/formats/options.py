"""What a reader is told that files alone can't say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The columns of a triple, in the order in which files without a header have them.
COLUMNS = ("head", "relation", "tail")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How files are read. Each default means: as the files say, refused where they do not.

    :ivar columns: names or places (from 1 on) of head, relation and tail; or the words head,
        relation and tail in the order of a file's columns, any other word for a further column
    :ivar separator: what stands between the fields of text; None for what the file's name says
    :ivar header: whether the first line of text names the columns; None if it has usual names
    :ivar ids: True if integers are ids, False if they are only names; None to refuse them where
        both is possible
    :ivar entity_ids: file of lines with an id and a label, for entities
    :ivar relation_ids: likewise for relations
    :ivar strip: whether blanks around labels are dropped; None refuses labels equal but for them
    :ivar normalize: whether labels are brought into the normal form NFC; None refuses labels that
        are equal in it
    :ivar skip_bad: whether lines that can't be read are left out and counted
    :ivar validation: file of the validation triples, in place of the folder's
    :ivar testing: likewise of the test triples
    :ivar fractions: parts of training, validation and testing that a single file is divided into
    :ivar seed: of that division
    """

    columns: tuple[str, ...] | None = None
    separator: str | None = None
    header: bool | None = None
    ids: bool | None = None
    entity_ids: Path | None = None
    relation_ids: Path | None = None
    strip: bool | None = None
    normalize: bool | None = None
    skip_bad: bool = False
    validation: Path | None = None
    testing: Path | None = None
    fractions: tuple[float, float, float] | None = None
    seed: int = 0
