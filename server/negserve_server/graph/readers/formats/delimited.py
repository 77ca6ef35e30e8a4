"""Lines of fields with a separator between them: TSV, CSV and the like, read by polars."""

from __future__ import annotations

import copy
import csv
import io
import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from negserve_server.errors import MalformedFile
from negserve_server.graph.readers.formats.columns import Chosen, Table, choose
from negserve_server.graph.readers.formats.compression import read_text
from negserve_server.graph.readers.formats.options import COLUMNS, ReadOptions

logger = logging.getLogger(__name__)

NAMES = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|", r"\t": "\t"}
_QUOTED = ",;"
#: Lines that are looked at to tell how many fields a line has.
_FIRST_LINES = 100
#: Bytes that are searched at a time.
_BLOCK = 2**18


class Text:
    """The bytes of a file, prepared so that polars reads every label as it is.

    :param path: the file
    :param separator: what stands between fields; fields of ``,`` and ``;`` may be quoted, by RFC
        4180, and blanks next to each other count as one
    """

    def __init__(self, path: Path, separator: str) -> None:
        self.path, self.separator = path, separator
        data = read_text(path)
        self.quote = '"' if separator in _QUOTED and b'"' in data else None
        if self.quote is None:
            if b"\r" in data:
                data = data.replace(b"\r\n", b"\n")
        elif data.count(b'"') % 2:
            raise MalformedFile(path, None, "a quotation mark is not closed")
        self.data = data
        if separator == " ":
            self.data = re.sub(rb"[ \t]{2,}|\t", b" ", self.data)
            self.data = re.sub(rb"(?m)^ | $", b"", self.data)
        self._used = separator
        if len(separator.encode()) > 1:  # polars takes one byte
            self._used = self._absent()
            self.data = self.data.replace(separator.encode(), self._used.encode())
        # polars drops carriage returns at the ends of fields.
        self._return = ""
        if self.quote is None and b"\r" in self.data:
            self._return = self._absent()
            self.data = self.data.replace(b"\r", self._return.encode())

    def _absent(self) -> str:
        """Give a character that does not occur."""
        for code in (*range(1, 9), *range(14, 32), *range(0xE000, 0xF8FF)):
            if chr(code).encode() not in self.data and chr(code) != getattr(self, "_used", ""):
                return chr(code)
        raise MalformedFile(self.path, None, "every control character occurs in it")

    def frame(self, num_fields: int, *, is_lossy: bool = False) -> pl.DataFrame:
        """Read all lines, blank ones included, into columns "0", "1" and so on.

        :param num_fields: fields of a line; one more column is null where there are not more
        :param is_lossy: read bytes that are not UTF-8 as U+FFFD
        :return: null for a field that is empty or that a line does not have
        """
        if not self.data:
            return pl.DataFrame(schema={str(i): pl.String for i in range(num_fields + 1)})
        # polars would unpack a text such as "x^2", which begins as zlib does.
        is_like_zlib = self.data[:1] == b"x"
        try:
            frame = pl.read_csv(
                b"\n" + self.data if is_like_zlib else self.data,
                separator=self._used,
                has_header=False,
                quote_char=self.quote,
                schema={str(i): pl.String for i in range(num_fields + 1)},
                missing_columns="insert",
                truncate_ragged_lines=True,
                encoding="utf8-lossy" if is_lossy else "utf8",
            )
        except pl.exceptions.PolarsError as error:
            raise self._unreadable(error) from error
        if is_like_zlib:
            frame = frame[1:]
        if self._return:
            frame = frame.with_columns(pl.all().str.replace_all(self._return, "\r", literal=True))
        return frame

    def whole_lines(self) -> pl.DataFrame:
        """Read lines that are not blank, undivided: columns "line" and "number", from 1 on."""
        lines = self._lines().select(line="0").with_row_index("number", 1)
        return lines.filter(pl.col("line").is_not_null())

    def _lines(self) -> pl.DataFrame:
        whole = copy.copy(self)
        whole._used, whole.quote = self._absent(), None
        return whole.frame(1)

    def _unreadable(self, error: Exception) -> MalformedFile:
        try:
            self.data.decode("utf-8")
        except UnicodeDecodeError as where:
            line = self.data.count(b"\n", 0, where.start) + 1
            return MalformedFile(
                self.path,
                line,
                f"not UTF-8: {where.reason}; convert the file, or leave such lines out by "
                f"--skip-bad",
            )
        try:
            for record in (reader := csv.reader(io.StringIO(self.data.decode()), strict=True)):
                del record
        except csv.Error as where:
            return MalformedFile(self.path, reader.line_num, f"is not CSV (RFC 4180): {where}")
        return MalformedFile(self.path, None, str(error).partition("\n")[0])

    def empty_lines(self) -> NDArray[np.bool_]:
        """Tell for each line whether it has no character."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))
        if not self.data.endswith(b"\n"):
            ends = np.append(ends, len(self.data))
        lengths: NDArray[np.bool_] = np.diff(ends, prepend=-1) == 1
        return lengths

    def has_empty_ends(self) -> bool:
        """Tell whether a line may end in an empty field."""
        end = self._used.encode()
        if len(end) > 1:
            return end + b"\n" in self.data or self.data.endswith(end)
        # Some at a time, which stay in the cache: a third of the time of a search for two bytes.
        data = np.frombuffer(self.data, np.uint8)
        for first in range(0, len(data), _BLOCK):
            some = data[first : first + _BLOCK + 1]
            if ((some[:-1] == end[0]) & (some[1:] == ord("\n"))).any():
                return True
        return self.data.endswith(end)

    def num_fields(self) -> pl.Series:
        """Count the fields of each line."""
        lines = self._lines()["0"].fill_null("")
        return lines.str.count_matches(self._used, literal=True) + 1

    def line(self, number: int) -> str:
        """Give a line by its number, from 1 on."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))
        start = 0 if number == 1 else int(ends[number - 2]) + 1
        end = int(ends[number - 1]) if number <= len(ends) else len(self.data)
        return self.data[start:end].decode("utf-8", "replace")

    def fields(self, line: str) -> list[str]:
        """Divide a line into fields."""
        if self.quote is None:
            found = line.split(self._used)
        else:
            found = next(csv.reader([line], delimiter=self._used), [""])
        return [each.replace(self._return, "\r") if self._return else each for each in found]

    def first_lines(self) -> list[tuple[int, list[str]]]:
        """Fields of the first lines that are not blank, with their numbers."""
        head = self.data[: 1 << 20].decode("utf-8", "replace")
        if self.quote is not None:
            reader = csv.reader(io.StringIO(head), delimiter=self._used)
            found = []
            for record in reader:
                if record:
                    found.append((reader.line_num, record))
                if len(found) == _FIRST_LINES:
                    break
            return found
        lines = enumerate(head.split("\n", 2 * _FIRST_LINES)[: 2 * _FIRST_LINES], start=1)
        return [(number, self.fields(line)) for number, line in lines if line][:_FIRST_LINES]


def separator_name(separator: str) -> str:
    """Give the word for a separator in messages."""
    return {"\t": "tab", " ": "space", ",": "comma", ";": "semicolon", "|": "pipe"}.get(
        separator, repr(separator)
    )


def read_delimited(
    path: Path,
    separator: str,
    options: ReadOptions,
    *,
    order: tuple[str, ...] | None = None,
    has_count: bool = False,
) -> Table:
    r"""Read triples from text.

    UTF-8; ``\n`` or ``\r\n`` ends a line; blank lines and a byte order mark are passed over; labels
    are kept as they are. Only fields between commas or semicolons may be quoted.

    :param order: the columns, if the file's name says what they are; they hold ids then
    :param has_count: whether the first line may say how many lines follow
    :raises MalformedFile: naming file, line, reason and remedy
    """
    if options.separator is not None:
        separator = NAMES.get(options.separator, options.separator)
    text = Text(path, separator)
    first = text.first_lines()
    if not first:
        raise MalformedFile(path, None, "holds no triples")
    count = None
    if has_count and len(first[0][1]) == 1 and first[0][1][0].isdecimal():
        count = (first[0][0], int(first[0][1][0]))
        first = first[1:] or [(first[0][0], [""] * 3)]
    line, fields = first[0]
    if options.skip_bad:
        usual = Counter(len(each) for _, each in first).most_common(1)[0][0]
        line, fields = next((n, each) for n, each in first if len(each) == usual)
    unit = f"{separator_name(separator)}-separated fields"
    if len(fields) < len(COLUMNS):
        raise MalformedFile(path, line, _too_few(text, fields, line, unit))
    if order is not None and options.columns is None:
        chosen = Chosen(
            (order.index("head"), order.index("relation"), order.index("tail")), False, True
        )
        if len(fields) != len(order):
            raise MalformedFile(path, line, f"{len(fields)} {unit}; expected {len(order)}")
    else:
        chosen = choose(path, fields, options, are_names=False, line=line, unit=unit)
    frame = _good_lines(
        text,
        len(fields),
        chosen,
        options,
        skipped=line if chosen.is_header else 0,
        count_line=count[0] if count else 0,
    )
    if len(frame) == 0:
        raise MalformedFile(path, None, "holds no triples")
    if count is not None and count[1] != len(frame):
        raise MalformedFile(
            path,
            count[0],
            f"says that {count[1]} lines follow, but {len(frame)} do; is it cut off?",
        )
    if chosen.is_header:
        left_out = [name for i, name in enumerate(fields) if i not in chosen.places]
        if left_out:
            logger.info("%s: columns left out: %s", path, ", ".join(left_out))
        if options.header is None and chosen.is_order_known and options.columns is None:
            _check_header_is_none(path, line, [fields[i] for i in chosen.places], frame)
    may_be_header = not chosen.is_header and options.header is None and order is None
    return Table(
        path,
        frame,
        is_order_known=chosen.is_order_known,
        holds_ids=order is not None,
        first_line=frame.row(0) if may_be_header else None,
    )


def _too_few(text: Text, fields: list[str], line: int, unit: str) -> str:
    why = f"{len(fields)} {unit}; expected 3 ({', '.join(COLUMNS)})"
    whole = text.line(line)
    for other in ("\t", ",", ";", "|", " "):
        if other != text.separator and len(whole.split(other)) >= len(COLUMNS):
            name = separator_name(other)
            return f"{why}; it has {len(whole.split(other))} by {name}: give --separator {name}"
    return f"{why}; give --separator, or leave such lines out by --skip-bad"


def _check_header_is_none(path: Path, line: int, names: list[str], frame: pl.DataFrame) -> None:
    """Refuse a header whose words are labels of the triples below it."""
    for name, column in zip(names, frame, strict=True):
        if (column == name).any():
            raise MalformedFile(
                path,
                line,
                f"{name!r} may be the name of a column, but it is a label of lines below; give "
                f"--header or --no-header",
            )


def _good_lines(
    text: Text, count: int, chosen: Chosen, options: ReadOptions, *, skipped: int, count_line: int
) -> pl.DataFrame:
    """Read the chosen columns of all lines, or say which line is bad and why."""
    is_lossy, marked = False, False
    try:
        frame = text.frame(count)
    except MalformedFile as error:
        if not options.skip_bad or "not UTF-8" not in error.why:
            raise
        is_lossy = True
        marked = "\ufffd".encode() in text.data
        frame = text.frame(count, is_lossy=True)
    used = [pl.col(str(place)) for place in chosen.places]
    is_blank = pl.all_horizontal(pl.all().is_null())
    is_bad = pl.col(str(count)).is_not_null()
    is_bad |= pl.any_horizontal(column.is_null() | (column == "") for column in used)
    if is_lossy and not marked:
        is_bad |= pl.any_horizontal(column.str.contains("\ufffd", literal=True) for column in used)
    # Most files have no such line; then nothing is copied.
    masks = frame.select(blank=is_blank, bad=is_bad.fill_null(True))
    blank, bad = masks["blank"], masks["bad"]
    if text.quote is None:
        if blank.any():  # or separators only
            blank &= pl.Series(text.empty_lines()[: len(blank)])
        if text.has_empty_ends():  # polars takes an empty field too much for none
            bad |= text.num_fields() > count
    bad &= ~blank
    keep = ~(bad | blank)
    for number in (skipped, count_line):
        if number:
            row = _row_of_line(text, frame, number)
            bad[row], keep[row] = False, False
    if bad.any():
        _skip_or_refuse(text, frame, bad, count, chosen, options)
    chosen_frame = frame.select(
        column.alias(name) for column, name in zip(used, COLUMNS, strict=True)
    )
    return chosen_frame if keep.all() else chosen_frame.filter(keep)


def _row_of_line(text: Text, frame: pl.DataFrame, line: int) -> int:
    if text.quote is None:
        return line - 1
    is_blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    return int((~is_blank).arg_max() or 0)  # only the first line is asked for


def _skip_or_refuse(
    text: Text,
    frame: pl.DataFrame,
    bad: pl.Series,
    count: int,
    chosen: Chosen,
    options: ReadOptions,
) -> None:
    row = int(bad.arg_max() or 0)
    line = row + 1
    if text.quote is not None:  # a quoted field may have several lines
        above = frame[:row].select(pl.all().str.count_matches("\n", literal=True).sum())
        line += sum(each or 0 for each in above.row(0))
    fields = text.fields(text.line(line))
    name = separator_name(text.separator)
    if len(fields) != count:
        why = f"{len(fields)} {name}-separated fields; expected {count}"
        why += f" ({', '.join(COLUMNS)})" if count == len(COLUMNS) else ""
    else:
        empty = [
            role for place, role in zip(chosen.places, COLUMNS, strict=True) if not fields[place]
        ]
        why = f"the {empty[0]} is empty" if empty else "not UTF-8"
    if not options.skip_bad:
        raise MalformedFile(
            text.path, line, f"{why}; mend the line, or leave such lines out by --skip-bad"
        )
    logger.warning(
        "%s: %d bad lines left out, such as line %d: %s", text.path, bad.sum(), line, why
    )
