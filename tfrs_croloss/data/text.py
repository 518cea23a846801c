"""Reading .csv and .tsv with a header, and .txt of lists, with the line of whatever is wrong."""

import codecs
import contextlib
import csv
import io
import itertools
import re
import shlex
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tfrs_croloss.data.columns import TEXT, DataError, checked, find_columns

BLOCK = 2**20
ROWS_AT_ONCE = 2**16
MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
UNPACKERS = {".gz": "gzip -dc", ".xz": "xz -dc"}
# By separator: fields in quotes, to be kept, or else blanks beside a separator or a line's end.
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
NO_LISTS = (
    "A .txt has a line `user item item …` for each user; a table with a header is a .csv or a .tsv"
)


class _Irregular(Exception):
    """A file that the fast parser does not read as it is to be read."""


def read_delimited(path, opener, separator, columns):
    """The columns of a .csv, quoted as RFC 4180 has it, or of a .tsv, which has no quoting.

    Arrow's parser is fast and knows no lines; Python's knows them, and takes all that is to be
    taken. So the second reads the file where the first finds anything out of the ordinary.
    """
    with _fields_of_any_size(), opener(path, "rb") as file:
        rows = _rows(path, file, separator)
        _, header_end, header = next(rows, (0, 0, None))
        if header is None:
            raise DataError(path, "the file is empty: expected a header and rows")
        find_columns(path, columns, header, line=header_end)
        places = [header.index(column) for column in columns.values()]
        try:
            with opener(path, "rb") as again:
                arrays = _parsed(path, again, separator, len(header), header_end, places)
            return checked(dict(zip(columns, arrays, strict=True)), columns, _irregular)
        except (_Irregular, DataError, pa.ArrowInvalid):
            lines, arrays = _read_slowly(path, rows, len(header), places)

        def refuse(row, problem, fix=""):
            raise DataError(path, problem + fix, line=int(lines[row]))

        return checked(dict(zip(columns, arrays, strict=True)), columns, refuse)


def _irregular(*_):
    raise _Irregular


@contextlib.contextmanager
def _fields_of_any_size():
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parsed(path, file, separator, num_columns, header_end, places):
    """The columns at these places, as Arrow's parser finds them."""
    has_quotes = False

    def watched(blocks):
        nonlocal has_quotes
        for line, block in blocks:
            has_quotes |= b'"' in block
            yield line, block

    names = [str(place) for place in range(num_columns)]
    wanted = [names[place] for place in places]
    table = pyarrow.csv.read_csv(
        _stream(_quoted_well(path, watched(_blocks(path, file)), separator)),
        pyarrow.csv.ReadOptions(column_names=names, skip_rows=header_end),
        pyarrow.csv.ParseOptions(
            delimiter=separator,
            quote_char='"' if separator == "," else False,
            newlines_in_values=separator == ",",
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys(wanted)),
            column_types=dict.fromkeys(wanted, TEXT),
            check_utf8=False,  # It is: `_blocks` has seen it.
        ),
    )
    arrays = [table[name] for name in wanted]
    trimmed = [pc.ascii_trim(array, " \t") for array in arrays]
    # Blanks in quotes belong to the field, and only the other parser knows which these are.
    if has_quotes and separator == "," and trimmed != arrays:
        _irregular()
    return trimmed


def _read_slowly(path, rows, num_columns, places):
    """The lines of the rows, and the columns at these places: what a row lacks is empty."""
    lines, chunks = [], [[] for _ in places]
    while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
        for line, _, fields in some:
            if len(fields) > num_columns:
                problem = f"expected as many fields as the header has, {num_columns}"
                raise DataError(path, f"{problem}; found {len(fields)}", line)
            fields += [""] * (num_columns - len(fields))
        lines.append(np.array([line for line, _, _ in some]))
        for place, chunk in zip(places, chunks, strict=True):
            chunk.append(pa.array([fields[place] for _, _, fields in some], TEXT))
    return np.concatenate([[0][:0], *lines]), [pa.chunked_array(chunk, TEXT) for chunk in chunks]


def _rows(path, file, separator):
    """Each row that is not blank: its first and last line, and its fields."""
    blocks = _quoted_well(path, _trimmed(_blocks(path, file), separator), separator)
    text = io.TextIOWrapper(_stream(blocks), encoding="utf-8", newline="")
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=separator, quoting=quoting, strict=True)
    end = 0
    for fields in reader:
        start, end = end + 1, reader.line_num
        if any(fields):
            yield start, end, fields


def read_lists(path, opener, columns):
    """Users and items of lines `user item item …`."""
    for name in ("time", "rating"):
        if name in columns:
            raise DataError(path, f"a .txt of lists has no {name} column; leave {name} out")
    users, items, lines = [], [], [np.empty(0, int)]
    with opener(path, "rb") as file:
        for first_line, block in _blocks(path, file):
            if b"\t" in block:
                line = first_line + _count_lines(block[: block.index(b"\t")])
                raise DataError(path, f"expected spaces between ids, found a tab. {NO_LISTS}", line)
            text = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            text = pc.ascii_trim_whitespace(pa.array(text, TEXT))
            tokens = pc.ascii_split_whitespace(text)
            of_users = pc.list_slice(tokens, 1)
            parents = pc.list_parent_indices(of_users)
            users.append(pc.take(pc.list_element(tokens, 0), parents))
            items.append(pc.list_flatten(of_users))
            lines.append(first_line + parents.to_numpy())
    lines = np.concatenate(lines)

    def refuse(row, problem, fix=""):
        raise DataError(path, problem + fix, int(lines[row]))

    users, items = (pa.chunked_array(arrays, TEXT) for arrays in (users, items))
    comma = pc.index(pc.ends_with(users, ","), True).as_py()
    if comma >= 0:
        refuse(comma, f"expected spaces between ids, found {users[comma].as_py()!r}. {NO_LISTS}")
    if not len(users):
        raise DataError(path, f"no interactions: expected at least one row. {NO_LISTS}")
    return checked({"user": users, "item": items}, {"user": "user", "item": "item"}, refuse)


def _blocks(path, file):
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
                path, f"{problem}. UTF-16 has such. {fix}", line + _count_lines(block[:zero])
            )
        try:
            block.isascii() or block.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(path, block, error.start, line, offset) from None
        yield line, block if offset else block.removeprefix(codecs.BOM_UTF8)
        line += _count_lines(block)
        offset += len(block)


def _count_lines(block):
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
        line + _count_lines(block[:place]),
    )


def _conversion(path, encoding):
    name, unpack = shlex.quote(str(path)), UNPACKERS.get(path.suffix.lower())
    iconv = f"iconv -f {encoding} -t UTF-8"
    return f"Convert it: {f'{unpack} {name} | {iconv}' if unpack else f'{iconv} {name}'} > new file"


def _trimmed(blocks, separator):
    """Leaves out the blanks at both ends of a field, but not those in quotes."""
    inside = False
    for line, block in blocks:
        # A block that begins in quotes is read with the quote that opened them.
        opened = b'"' if inside else b""
        yield line, PADDING[separator].sub(rb"\1", opened + block)[len(opened) :]
        inside ^= separator == "," and block.count(b'"') % 2 == 1


def _quoted_well(path, blocks, separator):
    """Refuses a quote of a .csv where RFC 4180 has none.

    Quotes open and close in turn, an escaped one closes and opens again. So one that opens stands
    at the beginning of a field, one that closes at its end, or each beside the other.
    """
    inside, opened = False, 0
    for line, block in blocks:
        if separator == "," and b'"' in block:
            codes = np.frombuffer(b"\n" + block + b"\n", np.uint8)
            quotes = np.flatnonzero(codes == ord('"'))
            opens = (np.arange(len(quotes)) + inside) % 2 == 0
            neighbours = np.where(opens, codes[quotes - 1], codes[quotes + 1])
            fine = np.isin(neighbours, np.frombuffer(b',\r\n"', np.uint8))
            end = len(quotes) if fine.all() else fine.argmin() + 1
            first = quotes[:end][(opens & (neighbours != ord('"')))[:end]]
            if len(first):
                opened = line + _count_lines(block[: first[-1] - 1])
            if not fine.all():
                place = line + _count_lines(block[: quotes[end - 1] - 1])
                found = "a quote within a field that begins with none"
                if not opens[end - 1]:
                    found = (
                        f"a field begins with a quote, and the next, in line {place}, ends it not"
                    )
                raise DataError(path, f"{found}. {RFC_4180}", opened)
            inside ^= len(quotes) % 2 == 1
        yield line, block
    if inside:
        raise DataError(
            path, f"a field begins with a quote that nothing closes. {RFC_4180}", opened
        )


def _stream(blocks):
    return io.BufferedReader(_Stream(blocks), BLOCK)


class _Stream(io.RawIOBase):
    """The blocks as a file."""

    def __init__(self, blocks):
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self._rest:
            _, block = next(self._blocks, (0, None))
            if block is None:
                return 0
            self._rest = memoryview(block)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
