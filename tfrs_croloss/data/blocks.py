"""The bytes of a text file, in blocks of whole lines: UTF-8, trimmed fields, good quoting."""

import codecs
import io
import re
import shlex

import numpy as np

from tfrs_croloss.data.columns import DataError

BLOCK = 2**20
MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
UNPACKERS = {".gz": "gzip -dc", ".xz": "xz -dc"}
# Per separator: group 1 keeps a quoted field; the rest matches blanks beside a separator
# or line end.
PADDING = {
    ",": re.compile(
        rb'("[^"]*(?:"|\Z))|(?<![ \t])[ \t]++(?=[,\r\n]|\Z)|(?<![^,\r\n])[ \t]++',
    ),
    "\t": re.compile(rb"()(?<! ) ++(?=[\t\r\n]|\Z)|(?<![^\t\r\n]) ++"),
}
RFC_4180 = (
    'In a .csv a field with a quote in it is quoted, and the quote doubled: "12"" mix" (RFC 4180). '
    "A .tsv has no quoting"
)


def blocks(path, file):
    """Blocks of whole lines, each with the number of its first; they are UTF-8, without a mark."""
    line, offset = 1, 0
    while block := file.read(BLOCK):
        block += file.readline()
        if not offset:
            for mark, encoding in MARKS.items():
                if block.startswith(mark):
                    problem = f"expected UTF-8 text, found the mark of {encoding}"
                    raise DataError(path, f"{problem}. {_conversion(path, encoding)}", line)
        if (zero := block.find(0)) >= 0:
            problem = f"expected UTF-8 text, found a zero byte at offset {offset + zero}"
            fix = _conversion(path, "UTF-16LE" if (offset + zero) % 2 else "UTF-16BE")
            raise DataError(
                path, f"{problem}. Text in UTF-16 has such. {fix}", line + count_lines(block[:zero])
            )
        try:
            block.isascii() or block.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(path, block, error.start, line, offset) from None
        yield line, block if offset else block.removeprefix(codecs.BOM_UTF8)
        line += count_lines(block)
        offset += len(block)


def count_lines(block):
    r"""The number of line ends: \n, \r\n or \r."""
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def _not_utf8(path, block, place, line, offset):
    """The error for the first byte in a block that is not UTF-8, with what it may be."""
    start = max(block.rfind(b"\n", 0, place), block.rfind(b"\r", 0, place)) + 1
    text = re.split(rb"[\r\n]", block[max(start, place - 40) : place + 40])[0]
    try:
        encoding, text = "WINDOWS-1252", text.decode("windows-1252")
    except UnicodeDecodeError:
        encoding, text = "ISO-8859-1", text.decode("iso-8859-1")
    return DataError(
        path,
        f"expected UTF-8 text, found the byte 0x{block[place]:02x} at offset {offset + place}, "
        f"counted from 0. If it is {encoding}, the line reads {text!r}. "
        f"{_conversion(path, encoding)}",
        line + count_lines(block[:place]),
    )


def _conversion(path, encoding):
    name, unpack = shlex.quote(str(path)), UNPACKERS.get(path.suffix.lower())
    iconv = f"iconv -f {encoding} -t UTF-8"
    return f"Convert it: {f'{unpack} {name} | {iconv}' if unpack else f'{iconv} {name}'} > new file"


def trimmed(numbered, separator):
    """Leaves out the blanks at both ends of a field, but not those in quotes."""
    inside = False
    for line, block in numbered:
        # A block that begins in quotes is read with the quote that opened them.
        opened = b'"' if inside else b""
        yield line, PADDING[separator].sub(rb"\1", opened + block)[len(opened) :]
        inside ^= separator == "," and block.count(b'"') % 2 == 1


def quoted_well(path, numbered, separator):
    """Refuses a quote of a .csv where RFC 4180 has none.

    Quotes open and close in turn, an escaped one closes and opens again. So one that opens stands
    at the beginning of a field, one that closes at its end, or each beside the other.
    """
    inside, opened = False, 0
    for line, block in numbered:
        if separator == "," and b'"' in block:
            codes = np.frombuffer(b"\n" + block + b"\n", np.uint8)
            quotes = np.flatnonzero(codes == ord('"'))
            opens = (np.arange(len(quotes)) + inside) % 2 == 0
            neighbours = np.where(opens, codes[quotes - 1], codes[quotes + 1])
            fine = np.isin(neighbours, np.frombuffer(b',\r\n"', np.uint8))
            end = len(quotes) if fine.all() else fine.argmin() + 1
            first = quotes[:end][(opens & (neighbours != ord('"')))[:end]]
            if len(first):
                opened = line + count_lines(block[: first[-1] - 1])
            if not fine.all():
                place = line + count_lines(block[: quotes[end - 1] - 1])
                found = "a quote within a field that begins with none"
                if not opens[end - 1]:
                    found = (
                        f"a field opens with a quote, and the next quote (line {place}) is not at "
                        "the end of a field"
                    )
                raise DataError(path, f"{found}. {RFC_4180}", opened)
            inside ^= len(quotes) % 2 == 1
        yield line, block
    if inside:
        raise DataError(
            path, f"a field begins with a quote that nothing closes. {RFC_4180}", opened
        )


def stream(numbered):
    """The blocks as a file."""
    return io.BufferedReader(_Stream(numbered), BLOCK)


class _Stream(io.RawIOBase):
    def __init__(self, numbered):
        self._numbered, self._rest = numbered, memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self._rest:
            _, block = next(self._numbered, (0, None))
            if block is None:
                return 0
            self._rest = memoryview(block)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
