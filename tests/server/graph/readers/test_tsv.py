"""Files of tab-separated labels: what is read, and how a malformed line is reported."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.readers.formats.delimited import read_delimited
from negserve_server.graph.readers.sources import find_sources

Row = tuple[str, str, str]
Read = Callable[[bytes], list[Row]]

GOOD = b"a\tr\tb\nc\tr\td\n"
ROWS = [("a", "r", "b"), ("c", "r", "d")]


def read_tsv(path: Path) -> pl.DataFrame:
    """Read triples that have no header."""
    return read_delimited(path, "\t", ReadOptions(header=False)).frame


def find_splits(path: Path) -> dict[str, Path]:
    """Find the file of each split."""
    return {split: file for split, (file,) in find_sources(path, ReadOptions()).splits.items()}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write bytes to a file and read it."""

    def rows(data: bytes) -> list[Row]:
        path = tmp_path / "graph.tsv"
        path.write_bytes(data)
        return [(h, r, t) for h, r, t in read_tsv(path).rows()]

    return rows


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        gzip.compress(GOOD),
        b"a\tr\tb\nc\tr\td",
        b"a\tr\tb\r\nc\tr\td\r\n",
        b"a\tr\tb\r\nc\tr\td",
        b"a\tr\tb\n\nc\tr\td\n\n\n",
        b"\n\na\tr\tb\nc\tr\td",
        b"a\tr\tb\r\n\r\nc\tr\td\r\n",
    ],
    ids=[
        "plain", "gzip", "no newline at the end", "CRLF", "CRLF, none at the end",
        "blank lines", "blank lines first", "blank CRLF lines",
    ],
)  # fmt: skip
def test_the_same_triples_are_read_however_lines_end(read: Read, data: bytes) -> None:
    assert read(data) == ROWS


def test_gzip_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.txt.gz", tmp_path / "packed.txt"
    plain.write_bytes(GOOD)
    packed.write_bytes(gzip.compress(GOOD))
    assert read_tsv(plain).rows() == read_tsv(packed).rows() == ROWS


@pytest.mark.parametrize(
    "row",
    [
        ("São Tomé", "größer", "日本語 🙂"),
        ('"quoted"', "it's", "plain"),
        ('a "word"', '"r"', '"two words"'),
        ("plain", "r", 'half "open'),
        ('"', '""', '"a'),
        (" leading", "trailing ", "two  spaces"),
        ("#no comment", "NA", "null"),
        ("1", "2.50", "1e3"),
        ("back\\slash\\t", "comma,semi;", "\u2028\x0b\x85"),
        ("NaN", "None", "\\N"),
    ],
)
@pytest.mark.parametrize("blank", ["", "\n"], ids=["fast", "line by line"])
def test_labels_are_kept_as_they_are(read: Read, row: Row, blank: str) -> None:
    assert read(("\t".join(row) + "\n" + blank).encode()) == [row]


# A byte order mark, and a carriage return at a label's end, have tests of their own below.
labels = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\ufeff"), min_size=1
).filter(lambda label: not label.endswith("\r"))
rows_strategy = st.lists(st.tuples(labels, labels, labels), min_size=1, max_size=20)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows_strategy,
    newline=st.sampled_from(["\n", "\r\n"]),
    end=st.booleans(),
    blank=st.booleans(),
    packed=st.booleans(),
)
def test_any_labels_come_back_from_a_file(
    read: Read, rows: list[Row], newline: str, end: bool, blank: bool, packed: bool
) -> None:
    text = newline.join("\t".join(row) for row in rows)
    text += newline * end + newline * (2 * blank)
    data = text.encode()
    assert read(gzip.compress(data) if packed else data) == rows


@pytest.mark.parametrize(
    ("data", "line", "why"),
    [
        (b"a\tr\tb\tx\nc\tr\td\n", 1, "4 tab-separated fields; expected 3"),
        (b"a\tr\tb\nc\tr\td\tx\n", 2, "4 tab-separated fields; expected 3"),
        (b"a\tr\tb\nc\tr\td\t\n", 2, "4 tab-separated fields; expected 3"),
        (b"a\tr\nc\tr\td\n", 1, "2 tab-separated fields; expected 3"),
        (b"a\tr\tb\nc\tr", 2, "2 tab-separated fields; expected 3"),
        (b"a\tr\tb\n   \n", 2, "1 tab-separated fields; expected 3"),
        (b"a,r,b\n", 1, "1 tab-separated fields; expected 3"),
        (b"a\tr\tb\n\n\tr\td\n", 3, "the head is empty"),
        (b"a\tr\tb\nc\t\td\n", 2, "the relation is empty"),
        (b"a\tr\tb\r\nc\tr\t\r\n", 2, "the tail is empty"),
        (b"a\tr\tb\nc\tr\td\n\xff\tr\td\n", 3, "not UTF-8: invalid start byte"),
        ("ä\tr\tb\n".encode("latin-1"), 1, "not UTF-8"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_bad_line_is_named(
    tmp_path: Path, data: bytes, line: int, why: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(pack(data))
    for refused in (lambda: read_tsv(path), lambda: TriplesFactory.from_path(tmp_path)):
        with pytest.raises(MalformedFile) as caught:
            refused()
        assert caught.value.path == str(path)
        assert caught.value.line == line
        assert why in caught.value.why
        assert str(caught.value) == f"{path}, line {line}: {caught.value.why}"


@pytest.mark.parametrize("bad", [b"c\tr", b"c\tr\td\te", b"c\t\td", b"c\tr\t\xff"])
def test_a_bad_line_far_into_a_large_file_is_named(read: Read, bad: bytes) -> None:
    with pytest.raises(MalformedFile) as caught:
        read(GOOD * 25_000 + bad + b"\n" + GOOD * 25_000)
    assert caught.value.line == 50_001


@pytest.mark.parametrize(
    "data",
    [
        b"",
        gzip.compress(b""),
        b"\n",
        b"\n\r\n\n",
    ],
    ids=["no bytes", "no bytes, gzip", "a newline", "blank lines"],
)
def test_a_file_without_triples_is_named(read: Read, data: bytes) -> None:
    with pytest.raises(MalformedFile, match=r"graph\.tsv: holds no triples") as caught:
        read(data)
    assert caught.value.line is None


def test_a_cut_off_gzip_file_is_named(read: Read) -> None:
    with pytest.raises(MalformedFile, match=r"graph\.tsv: can't be read: "):
        read(gzip.compress(GOOD * 1000)[:-12])


def test_a_damaged_gzip_file_is_named(read: Read) -> None:
    packed = gzip.compress(GOOD * 1000)
    with pytest.raises(MalformedFile, match=r"graph\.tsv: can't be read: "):
        read(packed[:12] + b"\xff" * 6 + packed[18:])


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + GOOD,
        b"a\r\tr\tb\n",
        b"a\tr\rs\tb\n",
        b"a\tr\tb\r\r\n",
    ],
    ids=["byte order mark", "CR before a tab", "CR in a label", "CR CRLF"],
)
def test_a_blank_line_does_not_change_how_other_lines_are_read(read: Read, data: bytes) -> None:
    assert read(data + b"\n") == read(data)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(MalformedFile, match="no such file or folder") as caught:
        TriplesFactory.from_path(missing)
    assert caught.value.path == str(missing)
    with pytest.raises(MalformedFile, match="can't be read"):
        read_tsv(missing)


def test_a_folder_without_training_triples_is_named(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_bytes(GOOD)
    (tmp_path / "train_inverse.txt").write_bytes(GOOD)
    with pytest.raises(MalformedFile, match=r"holds no training triples \(train\.\{txt") as caught:
        TriplesFactory.from_path(tmp_path)
    assert caught.value.path == str(tmp_path)


ENDINGS = ("txt", "tsv", "txt.gz", "tsv.gz")


@pytest.mark.parametrize("stem", ["train", "valid", "test"])
@pytest.mark.parametrize("endings", list(pairwise(ENDINGS)))
def test_two_files_for_one_split_are_both_named(
    tmp_path: Path, stem: str, endings: tuple[str, str]
) -> None:
    (tmp_path / "train.txt").write_bytes(GOOD)
    for ending in endings:
        (tmp_path / f"{stem}.{ending}").write_bytes(GOOD)
    with pytest.raises(MalformedFile) as caught:
        find_splits(tmp_path)
    assert caught.value.path == str(tmp_path)
    for ending in endings:
        assert f"{stem}.{ending}" in caught.value.why
    assert "keep one of them" in caught.value.why


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_found_and_splits_may_be_missing(tmp_path: Path, ending: str) -> None:
    for stem in ("train", "test"):
        (tmp_path / f"{stem}.{ending}").write_bytes(GOOD)
    assert find_splits(tmp_path) == {
        "training": tmp_path / f"train.{ending}",
        "testing": tmp_path / f"test.{ending}",
    }


def test_a_single_file_is_the_training_split(tmp_path: Path) -> None:
    path = tmp_path / "whatever.dat"
    path.write_bytes(GOOD)
    assert find_splits(path) == {"training": path}
