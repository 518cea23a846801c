"""Text files: against a naive reader, character by character, and the errors' places."""

import gzip
import lzma
import random

import pyarrow as pa
import pytest

from tfrs_croloss.data import DataError, blocks, read_interactions


def written(folder, name, content):
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(content))
    return path


def pairs(path, **columns):
    frame = read_interactions(path, **columns)
    return list(zip(frame["user"], frame["item"], strict=True))


class Wrong(Exception):
    """With the line."""


def naive_rows(content, separator):
    """Line and fields of each row: RFC 4180 for commas, no quoting for tabs, no blanks around."""
    blanks = " \t" if separator == "," else " "
    content += "\n"
    place, line, fields, first_line = 0, 1, [], 1
    while place < len(content):
        while content[place] in blanks:
            place += 1
        field = ""
        if separator == "," and content[place] == '"':
            opened, place = line, place + 1
            while True:
                if place >= len(content) - 1:
                    raise Wrong(opened)
                if content[place] == '"' and content[place + 1] != '"':
                    break
                place += content[place] == '"'
                line += content[place] == "\n"
                field += content[place]
                place += 1
            place += 1
            while content[place] in blanks:
                place += 1
            if content[place] not in f"{separator}\n":
                raise Wrong(opened)
        else:
            while content[place] not in f"{separator}\n":
                field += content[place]
                place += 1
            field = field.rstrip(blanks)
            if separator == "," and '"' in field:
                raise Wrong(line)
        fields.append(field)
        if content[place] == "\n":
            if any(fields):
                yield first_line, fields
            fields, line = [], line + 1
            first_line = line
        place += 1


def naive_pairs(content, separator):
    (header_line, header), *rows = naive_rows(content, separator)
    if not header.count("user") == header.count("item") == 1:
        raise Wrong(header_line)
    for line, fields in rows:
        if len(fields) > len(header):
            raise Wrong(line)
        fields += [""] * (len(header) - len(fields))
    places = header.index("user"), header.index("item")
    for place in places:
        for line, fields in rows:
            if not fields[place]:
                raise Wrong(line)
    return [tuple(fields[place] for place in places) for _, fields in rows]


ODD = ["x y", " a", "a ", "\tb", '"c"', '"d, e"', '"f""g"', '"h\ni"', ' "j" ', '""', '"', 'k"l']
CELLS = ["a", "b7", "ü", "NA", "é-9"]


def made_up(rng, separator):
    header = rng.choice([["user", "item", "x"], ["x", " item", "user "], ["user", "item"]])
    odd = [*ODD, '" m "', ""] if rng.random() < 0.5 else CELLS
    rows = [
        [
            rng.choice(odd if rng.random() < 0.2 else CELLS)
            for _ in range(len(header) if rng.random() < 0.95 else rng.randrange(1, 5))
        ]
        for _ in range(rng.randrange(1, 5))
    ]
    if separator == "\t":
        rows = [[cell.replace("\t", "") for cell in row] for row in rows]
    lines = [separator.join(row) for row in [header, *rows]]
    return "\n" * (rng.random() < 0.1) + "\n".join(lines) + rng.choice(["", "\n", "\n\n"])


@pytest.mark.parametrize("block", [1, 16, 2**20])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_against_a_naive_reader(tmp_path, monkeypatch, name, separator, line_end, block):
    monkeypatch.setattr(blocks, "BLOCK", block)
    rng = random.Random(block)
    num_wrong, num_read = 0, 0
    for _ in range(100):
        content = made_up(rng, separator)
        path = written(tmp_path, name, content.replace("\n", line_end))
        try:
            expected = naive_pairs(content, separator)
        except Wrong as wrong:
            with pytest.raises(DataError, match=f"line {wrong}: "):
                read_interactions(path)
            num_wrong += 1
        else:
            found = [tuple(x.replace(line_end, "\n") for x in pair) for pair in pairs(path)]
            assert found == expected, content
            num_read += 1
    assert num_wrong > 10
    assert num_read > 10


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_a_tsv_has_no_quoting(tmp_path, ending):
    content = 'user\titem\tname\n"u\ti1\t"weird al\nu2\t2"\tabc\nu3\ti3\t12" mix"\n'
    path = written(tmp_path, f"a.tsv{ending}", content)
    assert pairs(path) == [('"u', "i1"), ("u2", '2"'), ("u3", "i3")]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
@pytest.mark.parametrize(
    ("rows", "line", "message"),
    [
        ('u1,i1,"weird al\nu2,i2,12" mix"\n', 1001, "the next quote .line 1002. is not at the end"),
        ('u1,i1,12" mix\n', 1001, "a quote within a field that begins with none"),
        ('u1,"i1,x\nu2,i2,y\n', 1001, "begins with a quote that nothing closes"),
        ('u1,i1,"a\n"\n"u" 2,i2,y\n', 1003, "the next quote .line 1003. is not at the end"),
    ],
)
def test_an_odd_quote_of_a_csv(tmp_path, rows, line, message, ending):
    content = "user,item,name\n" + "u,i,x\n" * 999 + rows
    path = written(tmp_path, f"a.csv{ending}", content)
    with pytest.raises(DataError, match=rf"line {line}: .*{message}.*RFC 4180"):
        read_interactions(path)


def test_good_quoting_of_a_csv_survives(tmp_path):
    content = 'user,item,x\n"a, b","say ""hi""",1\n"two\nlines"," blanks ",\n"",,\n'
    path = written(tmp_path, "a.csv", content)
    assert pairs(path) == [("a, b", 'say "hi"'), ("two\nlines", " blanks ")]
    path = written(tmp_path, "a.csv", content + "\n,y,2\n")
    with pytest.raises(DataError, match="line 7: expected an id of the user"):
        read_interactions(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "user, item ,x\n1, 31,a b\n 2\t,32 ,\n"),
        ("a.csv", 'user, "item",x\n1, "31" ,"a, b"\n"2",\t32,\n'),
        ("a.tsv", "user \t item\n1\t 31\n2 \t32 \n"),
        ("a.txt", " 1  31 \n2 32\n"),
    ],
)
def test_blanks_around_a_field_are_left_out(tmp_path, name, content):
    assert pairs(written(tmp_path, name, content)) == [("1", "31"), ("2", "32")]


@pytest.mark.parametrize("content", ["user,item,item\n1,2,3\n", "user,item, item\n1,2,3\n"])
def test_a_column_twice(tmp_path, content):
    path = written(tmp_path, "a.csv", content)
    with pytest.raises(DataError, match="line 1: more than one column 'item'; .*Rename the others"):
        read_interactions(path)
    assert pairs(written(tmp_path, "a.csv", "user,x,item,x\n1,2,3,4\n")) == [("1", "3")]


def test_names_are_shown_in_quotes(tmp_path):
    path = written(tmp_path, "a.csv", '"user ",item\n1,2\n')
    with pytest.raises(DataError, match="no column 'user'; there are: 'user ', 'i"):
        read_interactions(path)


def test_a_field_larger_than_a_block(tmp_path):
    content = "user,item,x\n1,2," + "y" * 3_000_000 + "\n3,4,z\n"
    assert pairs(written(tmp_path, "a.csv", content)) == [("1", "2"), ("3", "4")]


def test_a_row_may_lack_fields_that_are_not_asked_for(tmp_path):
    path = written(tmp_path, "a.csv", "user,item,x,y\n1,2\n3,4,5\n")
    assert pairs(path) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("my file.csv", "iconv -f WINDOWS-1252 -t UTF-8 '.*my file.csv' >"),
        ("a.tsv.gz", "gzip -dc .*a.tsv.gz | iconv -f WINDOWS-1252 -t UTF-8 >"),
        ("a.txt.xz", "xz -dc .*a.txt.xz | iconv -f WINDOWS-1252 -t UTF-8 >"),
    ],
)
def test_bytes_that_are_not_utf8(tmp_path, name, command):
    separator = {"c": ",", "t": "\t"}[name.split(".")[1][0]] if "txt" not in name else " "
    lines = [f"user{separator}item"] + [f"ä{separator}b"] * 200_000 + [f"José{separator}b"]
    before, after = "\n".join(lines).encode().split("José".encode())
    path = written(tmp_path, name, before + b"Jos\xe9" + after)
    offset = len(before) + 3
    with pytest.raises(DataError) as caught:
        read_interactions(path)
    message = f"line 200002: expected UTF-8 text, found the byte 0xe9 at offset {offset}, "
    assert f"{path}, {message}" in str(caught.value)
    assert "'José" in str(caught.value)
    assert caught.match(command)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wider_encodings(tmp_path, encoding):
    path = written(tmp_path, "a.csv", "user,item\n1,é\n".encode(encoding))
    with pytest.raises(DataError, match="line 1: expected UTF-8 text.* iconv -f UTF-(16|32)"):
        read_interactions(path)


def test_a_byte_that_windows_1252_lacks(tmp_path):
    path = written(tmp_path, "a.csv", b"user,item\n1,\x81\n")
    with pytest.raises(DataError, match="line 2: .* 0x81 at offset 12,.*iconv -f ISO-8859-1"):
        read_interactions(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n1\t2\t3\n", "line 2: expected spaces between ids, found a tab"),
        ("user, item\n1, 2\n", "line 1: expected spaces between ids, found 'user,'"),
        ("user,item\n1,2\n", "no interactions: .*a table with a header is a .csv or a .tsv"),
        ("1 2\n1 2,3\n", "line 2: expected spaces between ids, found '2,3'"),
        ("1\n2 3.0 4.0\n5 6.0\n", "line 2: expected an id of the item.* found '3.0'"),
    ],
)
def test_a_txt_that_holds_no_lists(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_interactions(written(tmp_path, "a.txt", content))


def test_lines_of_lists_end_where_lines_end(tmp_path):
    path = written(tmp_path, "a.txt", "1 a\u2028b c\u00a0d\r\n2 e\r3 f")
    assert pairs(path) == [("1", "a\u2028b"), ("1", "c\u00a0d"), ("2", "e"), ("3", "f")]


def test_columns_that_are_not_asked_for_are_not_kept(tmp_path):
    """What Arrow allocates is some blocks and the columns asked for, in a file of 30 MB."""
    content = "user,review,item\n" + f"1,{'lorem ' * 99},2\n" * 50_000
    path = written(tmp_path, "a.csv.gz", content)
    assert arrow_peak(lambda: read_interactions(path)) < len(content) / 5
    assert arrow_peak(lambda: read_interactions(path, item="review")) > len(content)


def arrow_peak(function):
    """The most bytes that Arrow held at once."""
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        function()
    finally:
        pa.set_memory_pool(before)
    return pool.max_memory()
