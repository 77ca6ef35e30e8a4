"""Bytes of files, unpacked; how a file is packed is told by its content, not by its name."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from negserve_server.errors import MalformedFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Endings of the names of packed files.
ENDINGS = ("gz", "zst", "zstd", "xz", "bz2")
_UNPACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\x28\xb5\x2f\xfd": zstd.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
    b"BZh": bz2.decompress,
}
#: How the first block of bzip2 begins, and the end of one without blocks.
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
#: What is told by its first bytes, to say what it is.
_UNKNOWN = {
    b"PK\x03\x04": "a zip archive; unpack it first, or read the .npz under that name",
    b"PAR1": "Parquet; give it the ending .parquet",
    b"ARROW1": "Arrow; give it the ending .arrow",
    codecs.BOM_UTF16_LE: "UTF-16, not UTF-8; convert it, as with iconv -f UTF-16 -t UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16, not UTF-8; convert it, as with iconv -f UTF-16 -t UTF-8",
}


def read_bytes(path: Path) -> bytes:
    """Read a file, plain or packed by gzip, zstd, xz or bzip2.

    :raises MalformedFile: if it can't be read or unpacked
    """
    try:
        data = path.read_bytes()
        for magic, unpack in _UNPACK.items():
            # Three letters may begin a text; bzip2 has a digit and six further bytes.
            if data.startswith(magic) and (magic != b"BZh" or data[4:10] in _BZIP2_BLOCKS):
                return unpack(data)
    # bzip2 raises ValueError where it is cut off.
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
        raise MalformedFile(path, None, f"can't be read: {error}") from error
    return data


def read_text(path: Path) -> bytes:
    """Read a file of text, without a byte order mark.

    :raises MalformedFile: if it can't be read, or is known to be something else
    """
    data = read_bytes(path)
    for magic, what in _UNKNOWN.items():
        if data.startswith(magic):
            raise MalformedFile(path, None, f"is {what}")
    return data.removeprefix(codecs.BOM_UTF8)
