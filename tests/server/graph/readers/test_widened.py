"""Each kind of input in other spellings, formats and combinations."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.readers import ReadOptions

ROWS = [("a", "likes", "b"), ("b", "likes", "a"), ("b", "knows", "c"), ("c", "knows", "a")]
MAPPED = [[0, 1, 1], [1, 0, 2], [1, 1, 0], [2, 0, 0]]


def text(rows: Any = ROWS, separator: str = "\t") -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def write(folder: Path, **files: str | bytes) -> Path:
    """Write files; a double underscore in a name is a dot, a triple one a folder's end."""
    for name, data in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def frame(rows: Any = ROWS, names: tuple[str, ...] = ("head", "relation", "tail")) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(names), orient="row")


def parquet(table: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    table.write_parquet(file)
    return file.getvalue()


def load(path: Path, **options: Any) -> TriplesFactory:
    return TriplesFactory.from_path(path, ReadOptions(**options))


def refused(path: Path, *words: str, **options: Any) -> MalformedFile:
    with pytest.raises(MalformedFile) as caught:
        load(path, **options)
    for word in words:
        assert word in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train__csv", "HEAD,Relation,tail\r\n" + text(separator=",").replace("\n", "\r\n")),
        ("Train__TSV", "\ufeffSubject\tPredicate\tObject\n" + text()),
        ("train__csv__xz", lzma.compress(text(separator=",").encode())),
        ("train__jsonl__bz2", bz2.compress(frame().write_ndjson().encode())),
        ("train__parquet__gz", gzip.compress(parquet(frame()))),
        ("train__csv", '"a","likes","b"\n"b",likes,"a"\n\nb,knows,c\nc,knows,a'),
        ("train__tsv", text() + text()),
        ("edges__pq", parquet(frame([(r, t, h) for h, r, t in ROWS], ("type", "to", "from")))),
        ("edges__csv", ":START_ID(N),:END_ID,:TYPE\na,b,likes\nb,a,likes\nb,c,knows\nc,a,knows"),
    ],
)  # fmt: skip
def test_the_same_graph_is_read(tmp_path: Path, name: str, data: str | bytes) -> None:
    assert load(write(tmp_path, **{name: data})).mapped_triples.tolist() == MAPPED


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    frame().write_ipc(tmp_path / "train.feather")
    frame().write_ipc_stream(tmp_path / "valid.arrow")
    factory = load(tmp_path)
    assert factory.splits["validation"].tolist() == factory.mapped_triples.tolist() == MAPPED


def test_parts_of_a_folder_per_split_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="negserve_server")
    write(
        tmp_path,
        train___part__0__parquet=parquet(frame(ROWS[:2])),
        train___part__1__parquet=parquet(frame(ROWS[2:])),
        train____SUCCESS="",
        valid__parquet___0_000000__parquet=parquet(frame(ROWS[:1])),
    )
    factory = load(tmp_path)
    assert factory.mapped_triples.tolist() == MAPPED
    assert factory.splits["validation"].tolist() == [[0, 1, 1]]
    assert "train/_SUCCESS" in caplog.text
    assert load(tmp_path / "train").mapped_triples.tolist() == MAPPED


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_a_wrong_order_is_refused_in_every_format(tmp_path: Path, ending: str) -> None:
    rows = [(h, t, r) for h, r, t in ROWS]
    plain = ("0", "1", "2")
    data: Any = {
        "csv": text(rows, ","),
        "tsv": text(rows),
        "parquet": parquet(frame(rows, plain)),
        "jsonl": frame(rows, plain).write_ndjson(),
    }[ending]
    write(tmp_path, **{f"train__{ending}": data})
    refused(tmp_path, "relation's and an entity's column", "--columns")
    for columns in (("1", "3", "2"), ("head", "tail", "relation")):
        assert load(tmp_path, columns=columns).mapped_triples.tolist() == MAPPED


@pytest.mark.parametrize("ending", ["csv", "tsv__gz", "parquet", "jsonl"])
def test_integers_are_refused_in_every_format(tmp_path: Path, ending: str) -> None:
    rows = [(10, 0, 2), (2, 0, 10), (2, 1, 3)]
    lines = [tuple(map(str, row)) for row in rows]
    data: Any = {
        "csv": text(lines, ","),
        "tsv__gz": gzip.compress(text(lines).encode()),
        "parquet": parquet(frame(rows)),
        "jsonl": frame(rows).write_ndjson(),
    }[ending]
    write(tmp_path, **{f"train__{ending}": data})
    refused(tmp_path, "integers", "--ids", "--labels")
    assert load(tmp_path, ids=True).mapped_triples.tolist() == [[2, 0, 10], [2, 1, 3], [10, 0, 2]]
    assert load(tmp_path, ids=False).entity_to_id == {"10": 0, "2": 1, "3": 2}


def test_only_one_kind_of_integers_is_refused_too(tmp_path: Path) -> None:
    refused(write(tmp_path, train__txt="1\tlikes\t2\n2\tlikes\t10\n"), "entities are integers")
    assert load(tmp_path, ids=False).num_entities == 3
    refused(tmp_path, "'likes' is not an id", ids=True)


def test_padded_numbers_are_names(tmp_path: Path) -> None:
    write(tmp_path, train__txt="001\tlikes\t002\n002\tlikes\t100\n")
    assert load(tmp_path).num_entities == 3


def test_maps_may_be_packed_and_beside_labels_or_ids(tmp_path: Path) -> None:
    write(
        tmp_path,
        entity2id__txt__gz=gzip.compress(b"4\nc\t0\nb\t1\na\t2\nunused\t3\n"),
        relation2id__txt="knows\t0\nlikes\t1\n",
        train__txt=text(),
    )
    factory = load(tmp_path)
    assert factory.num_entities == 4
    assert factory.entity_to_id["a"] == 2
    write(tmp_path, train2id__txt="2\n2\t1 1\n1 2  1\n")
    assert load(tmp_path).mapped_triples.tolist() == [[1, 1, 2], [2, 1, 1]]


@pytest.mark.parametrize(
    ("entities", "words"),
    [
        ("0\ta\n1\tb\n", ["'c'", "entities.dict"]),
        ("0\ta\n1\tb\n1\tc\n", ["id 1 twice"]),
        ("0\ta\n1\ta\n2\tc\n", ["'a' two ids"]),
        ("3\n0\ta\n1\tb\n", ["says that 3 lines follow, but 2 do"]),
        ("0\ta\n1\tb\nc\n", ["line 3"]),
        ("", ["holds no ids"]),
    ],
)
def test_a_bad_map_is_refused(tmp_path: Path, entities: str, words: list[str]) -> None:
    relations = "0\tlikes\n1\tknows\n"
    write(tmp_path, train__txt=text(), entities__dict=entities, relations__dict=relations)
    refused(tmp_path, *words)


def test_a_wrong_order_beside_maps_names_columns(tmp_path: Path) -> None:
    write(
        tmp_path,
        train__txt=text([(h, t, r) for h, r, t in ROWS]),
        entities__dict="0\ta\n1\tb\n2\tc\n",
        relations__dict="0\tknows\n1\tlikes\n",
    )
    refused(tmp_path, "--columns")
    assert load(tmp_path, columns=("head", "tail", "relation")).mapped_triples.tolist() == MAPPED


def test_integers_that_are_ids_and_labels_of_a_map_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train__txt="0\tr\t1\n1\tr\t0\n", entities__dict="0\t1\n1\t0\n")
    refused(tmp_path, "ids and labels", "--ids or --labels")


def test_a_header_of_unknown_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path, train__tsv="a_id\tkind\tb_id\n" + text())
    refused(tmp_path, "a_id, kind, b_id", "--header or --no-header")
    assert load(tmp_path, header=True).mapped_triples.tolist() == MAPPED
    assert load(tmp_path, columns=("a_id", "kind", "b_id")).mapped_triples.tolist() == MAPPED
    assert load(tmp_path, header=False).num_triples == 5


@pytest.mark.parametrize("first", ["head\tverb\ttail\n", "h\tr\tt\nh\tlikes\ta\n"])
def test_a_line_that_may_be_a_header_is_refused(tmp_path: Path, first: str) -> None:
    refused(write(tmp_path, train__tsv=first + text()), "--header or --no-header", header=None)
    assert load(tmp_path, header=False).num_triples > 4


@pytest.mark.parametrize(
    ("label", "words"),
    [(" a", "--strip"), ("a\u00a0", "--strip"), ("a ", "--strip")],
)
@pytest.mark.parametrize("name", ["train__csv", "valid__csv"])
def test_blanks_around_labels_are_refused(
    tmp_path: Path, label: str, words: str, name: str
) -> None:
    write(tmp_path, train__csv=text(separator=","))
    with (tmp_path / name.replace("__", ".")).open("a") as file:
        file.write(f"{label},likes,c\n")
    refused(tmp_path, words, "'a'")
    assert load(tmp_path, strip=True).num_entities == 3
    load(tmp_path, strip=False)


def test_unicode_forms_are_refused_in_relations_too(tmp_path: Path) -> None:
    write(tmp_path, train__txt="a\té\tb\nb\te\u0301\ta\n")
    refused(tmp_path, "NFC", "--normalize")
    assert load(tmp_path, normalize=True).num_relations == 1
    assert load(tmp_path, normalize=False).num_relations == 2


def test_quoted_fields_may_have_separators_quotes_and_newlines(tmp_path: Path) -> None:
    write(tmp_path, train__csv='"a, ""the"" first\nline",r,b\r\nb,r,"c\r\nd"\r\nx,,y\r\n')
    assert refused(tmp_path, "the relation is empty", "--skip-bad").line == 5
    factory = load(tmp_path, skip_bad=True)
    assert set(factory.entity_to_id) == {'a, "the" first\nline', "b", "c\r\nd"}


def test_labels_of_json_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    odd = [("a\tb", "r", "c\nd"), ("c\nd", "r", "e")]
    write(tmp_path, train__jsonl=frame(odd).write_ndjson())
    assert set(load(tmp_path).entity_to_id) == {"a\tb", "c\nd", "e"}


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("train__txt", b"x\ty\n"), ("train__txt", b"x\ty\tz\tz\n"), ("train__txt", b"\ty\tz\n"),
        ("train__txt", b"\xff\ty\tz\n"), ("train__txt", b"x\ty\tz\t\n"), ("train__txt", b"\t\t\n"),
        ("train__jsonl", b"oops\n"), ("train__jsonl", b'{"head": "x", "tail": "z"}\n'),
    ],
)  # fmt: skip
def test_bad_lines_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, bad: bytes
) -> None:
    good = text() if name.endswith("txt") else frame().write_ndjson()
    write(tmp_path, **{name: good.encode() + bad + good.encode() + bad})
    refused(tmp_path, "--skip-bad")
    assert load(tmp_path, skip_bad=True).mapped_triples.tolist() == MAPPED
    assert "2 " in caplog.text
    assert "left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("train__txt", text().encode("utf-16"), "UTF-16"),
        ("train__txt", b"PK\x03\x04", "zip"),
        ("train__parquet", b"", "Parquet"),
        ("train__parquet", parquet(frame())[:-20], "Parquet"),
        ("train__jsonl", b'["a","r","b"]\n', "JSON object"),
        ("train__jsonl", b"", "no triples"),
        ("train__npy", b"", "numpy"),
        ("train__csv", b'"a,r,b\n', "quotation mark"),
        ("train__csv", b"a;r;b\n", "--separator semicolon"),
        ("train__txt", b"a r b\n", "--separator space"),
    ],
)
def test_what_is_something_else_is_refused(
    tmp_path: Path, name: str, data: bytes, word: str
) -> None:
    refused(write(tmp_path, **{name: data}), word)


def test_nul_and_carriage_returns_stay_in_labels(tmp_path: Path) -> None:
    write(tmp_path, train__txt="a\0\tr\tb\rc\n\nb\rc\tr\ta\0\n")
    assert set(load(tmp_path).entity_to_id) == {"a\0", "b\rc"}


@pytest.mark.parametrize("label", ["x^2", "x\r1", "x\x01"])
def test_a_text_that_begins_as_zlib_does_is_text(tmp_path: Path, label: str) -> None:
    write(tmp_path, train__txt=f"{label}\tr\tb\nb\tr\ta\n")
    assert set(load(tmp_path).entity_to_id) == {label, "a", "b"}


def test_a_separator_may_be_several_characters(tmp_path: Path) -> None:
    write(tmp_path, train__txt=text(separator=" ||| "))
    assert load(tmp_path, separator=" ||| ").mapped_triples.tolist() == MAPPED


def test_arrays_have_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.array(MAPPED, dtype=np.uint8))
    assert load(tmp_path).mapped_triples.tolist() == MAPPED
    np.save(tmp_path / "train.npy", np.array(MAPPED).T)
    assert load(tmp_path, columns=("1", "2", "3")).num_triples == 3
    for wrong in (np.zeros((2, 2), int), np.zeros((2, 3)), np.array([[-1, 0, 0]])):
        np.save(tmp_path / "train.npy", wrong)
        refused(tmp_path, "train.npy")


def test_unnamed_nodes_of_rdf_have_the_same_ids_each_time(tmp_path: Path) -> None:
    pytest.importorskip("pyoxigraph")
    turtle = "@prefix x: <http://x/> . x:a x:p [ x:q x:b ] . x:b x:p [ x:q x:a ] ."
    write(tmp_path, graph__ttl=turtle)
    assert load(tmp_path).entity_to_id == load(tmp_path).entity_to_id
    (tmp_path / "graph.ttl").write_text("x:a x:p x:b .")
    assert refused(tmp_path, "graph.ttl").line == 1


_QUADS = "<http://x/a> <http://x/p> <http://x/b>"


@pytest.mark.parametrize(
    ("name", "content", "num_bad"),
    [
        (
            "graph.nt",
            "<x:a> <x:p> <x:b> .\n<x:a> <x:p> b .\n<x:b c> <x:p> <x:b> .\n<x:b> <x:p> <x:a> .\n",
            2,
        ),
        ("graph.nq", "<x:a> <x:p> <x:b> .\nnothing\n<x:b> <x:p> <x:a> <x:g> .\n", 1),
        ("graph.ttl", "@prefix x: <x:> .\nx:a x:p x:b .\nx:a x:p y:c .\nx:b x:p x:a .\n", 1),
    ],
)  # fmt: skip
def test_bad_statements_of_rdf_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: str, num_bad: int
) -> None:
    (tmp_path / name).write_text(content)
    refused(tmp_path / name, "mend the file")
    with caplog.at_level(logging.WARNING):
        factory = load(tmp_path / name, skip_bad=True)
    assert factory.mapped_triples.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert f"{num_bad} bad statements left out, such as: Parser error at line" in caplog.text


def test_no_statement_of_rdf_xml_is_left_out(tmp_path: Path) -> None:
    """Its parser would go on with a node that is not there."""
    bad = _RDF_XML.replace("http://x/b", "x b")
    (tmp_path / "graph.rdf").write_text(bad)
    refused(tmp_path / "graph.rdf", "x b", skip_bad=True)


_RDF_XML = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="http://x/">
<rdf:Description rdf:about="http://x/a"><x:p rdf:resource="http://x/b"/><x:age>7</x:age>
</rdf:Description></rdf:RDF>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("graph.nt", f"{_QUADS} ."),
        ("graph.nq", f"{_QUADS} <http://x/g> ."),
        ("graph.ttl", "@prefix x: <http://x/> . x:a x:p x:b ."),
        ("graph.trig", f"<http://x/g> {{ {_QUADS} }}"),
        ("graph.rdf", _RDF_XML),
        ("graph.owl", _RDF_XML),
        ("graph.xml", _RDF_XML),
    ],
)
def test_every_format_of_rdf_gives_the_same_triple(tmp_path: Path, name: str, content: str) -> None:
    pytest.importorskip("pyoxigraph")
    (tmp_path / name).write_text(content)
    factory = load(tmp_path)
    assert factory.entity_to_id == {"http://x/a": 0, "http://x/b": 1}
    assert factory.relation_to_id == {"http://x/p": 0}
    assert factory.mapped_triples.tolist() == [[0, 0, 1]]


def test_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, one=text(), two__csv=text(ROWS[:1], ","), three__jsonl=frame().write_ndjson())
    factory = load(
        tmp_path / "one", validation=tmp_path / "two.csv", testing=tmp_path / "three.jsonl"
    )
    assert [len(each) for each in factory.splits.values()] == [4, 1, 4]


def test_fractions_keep_every_entity_and_relation_in_training(tmp_path: Path) -> None:
    rows = [(f"e{i % 50}", f"r{i % 7}", f"e{i * 3 % 50}") for i in range(700)]
    write(tmp_path, graph__tsv=text(rows))
    whole = load(tmp_path)
    wanted = (0.8, 0.1, 0.1)
    first, again = (load(tmp_path, fractions=wanted, seed=3) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != load(tmp_path, fractions=wanted, seed=4).fingerprint
    assert first.entity_to_id == whole.entity_to_id
    assert len(np.unique(first.mapped_triples[:, [0, 2]])) == whole.num_entities
    assert len(np.unique(first.mapped_triples[:, 1])) == whole.num_relations
    parts = np.concatenate(list(first.splits.values()))
    assert sorted(map(tuple, parts)) == sorted(map(tuple, whole.mapped_triples))
    assert len(first.splits["testing"]) == round(0.1 * whole.num_triples)
    with pytest.raises(ValueError, match="smaller --fractions"):
        load(tmp_path, fractions=(0.01, 0.5, 0.49))


#: As PyKEEN writes them: packed, with headers. The entity d occurs in no triple.
_PYKEEN_IDS = gzip.compress(b"id\tlabel\n0\tb\n1\td\n2\ta\n3\tc\n")
_PYKEEN_RELATIONS = gzip.compress(b"id\tlabel\n0\tknows\n1\tlikes\n")


def pykeen_folder(rows: str, entities: bytes = _PYKEEN_IDS) -> dict[str, bytes]:
    return {
        "numeric_triples__tsv__gz": gzip.compress(b"head\trelation\ttail\n" + rows.encode()),
        "entity_to_id__tsv__gz": entities,
        "relation_to_id__tsv__gz": _PYKEEN_RELATIONS,
        "base__pth": b"not read",
    }


def of_split(split: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{split}___{name}": data for name, data in files.items()}


def test_folders_that_pykeen_wrote(tmp_path: Path):
    (tmp_path / "one").mkdir()
    one = load(write(tmp_path / "one", **pykeen_folder("2\t1\t0\n0\t0\t3\n")))
    assert one.mapped_triples.tolist() == [[0, 0, 3], [2, 1, 0]]
    assert list(one.entity_to_id) == ["b", "d", "a", "c"]
    (tmp_path / "all").mkdir()
    dataset = {
        **of_split("training", pykeen_folder("2\t1\t0\n0\t0\t3\n")),
        **of_split("testing", pykeen_folder("3\t0\t1\n")),
        "metadata__pth": b"not read",
    }
    several = load(write(tmp_path / "all", **dataset))
    assert several.split_fingerprints["training"] == one.split_fingerprints["training"]
    assert several.splits["testing"].tolist() == [[3, 0, 1]]


def test_splits_with_ids_of_their_own_are_refused(tmp_path: Path):
    other = gzip.compress(b"id\tlabel\n0\ta\n1\tb\n2\tc\n3\td\n")
    dataset = {
        **of_split("training", pykeen_folder("2\t1\t0\n")),
        **of_split("validation", pykeen_folder("2\t1\t0\n", entities=other)),
    }
    with pytest.raises(MalformedFile, match=r"validation/entity_to_id.*other ids than .*training"):
        load(write(tmp_path, **dataset))
