from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from foreword.data.readers import FORMATS, ReadOptions, detect_format, parse_json_lines, read_records
from foreword.errors import DataError
from foreword.tasks import QA
from real_data import needs_real_data, real_data


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return write


def read(path: Path, format: str = "auto", **options: Any) -> list[tuple[dict[str, Any], int]]:
    return [(dict(record.fields), record.line) for record in read_records(path, format, ReadOptions(**options))]


def failure(path: Path | str, format: str = "auto", **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_records(path, format, ReadOptions(**options)))
    assert str(caught.value).startswith(str(path))
    return caught.value


# --- choosing a format ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("A.CSV", "csv"),
        ("a.tsv", "tsv"),
        ("a.json", "squad"),
        ("a.conll", "conll"),
        ("a.conllu", "conll"),
        ("a.bio", "conll"),
        ("a.iob", "conll"),
        ("a.iob2", "conll"),
        ("a.txt", "conll"),
        ("dev.props", "props"),
        ("eng.testa", "conll"),
        ("a.jsonl.gz", "jsonl"),
        ("A.CSV.GZ", "csv"),
        ("hub:owner/name", "datasets"),
    ],
)
def test_the_name_of_a_file_says_its_format(name, format):
    assert detect_format(name) == format


@pytest.mark.parametrize("marker", ["dataset_info.json", "dataset_dict.json", "state.json"])
def test_a_folder_of_the_datasets_library_is_recognised(tmp_path, marker):
    (tmp_path / marker).write_text("{}")
    assert detect_format(tmp_path) == "datasets"


def test_an_unknown_suffix_lists_the_formats_and_says_how_to_name_one(write):
    message = str(failure(write("a.parquet", "x")))
    assert all(name in message for name in FORMATS)
    assert '[data] format = "' in message
    assert ".parquet" in message


def test_an_unknown_format_is_refused_at_once(write):
    with pytest.raises(DataError, match=r"unknown format 'xml'.*jsonl, csv"):
        read_records(write("a.jsonl", '{"a": 1}'), "xml")


def test_another_folder_is_refused(tmp_path):
    assert "is a folder without dataset_info.json" in str(failure(tmp_path))


# --- mishaps that every format of files shares ---------------------------------------------------

FILES = [name for name in FORMATS if name != "datasets"]


@pytest.mark.parametrize("format", FILES)
def test_a_missing_file(tmp_path, format):
    assert "no such file" in str(failure(tmp_path / "none", format))


def test_a_missing_file_of_no_known_suffix(tmp_path):
    assert "no such file" in str(failure(tmp_path / "none"))


@pytest.mark.parametrize("format", [name for name in FILES if name != "webnlg"])  # it may be a folder of files
def test_a_folder_in_place_of_a_file(tmp_path, format):
    assert "is a folder, expected a file" in str(failure(tmp_path, format))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ""),
        ("a.jsonl", "\n \n"),
        ("a.csv", ""),
        ("a.csv", "text,label\n"),
        ("a.tsv", "text\tlabel\n\n"),
        ("a.conll", "\n\n"),
        ("a.conll", "-DOCSTART- O\n\n"),
        ("a.json", '{"data": []}'),
        ("a.props", ""),
        ("a.props", "Rain\tNN\t-\t-\n\nfell\tVBD\t-\t-\n"),
        ("a.jsonl.gz", gzip.compress(b"\n", mtime=0)),
    ],
)
def test_a_file_without_records(write, name, content):
    assert "no records" in str(failure(write(name, content)))


BAD_BYTE = {
    "jsonl": (b'{"a": "ok"}\n', b'{"a": "\xff"}\n'),
    "csv": (b"a,b\n1,2\n", b"cc,\xe9\n"),
    "tsv": (b"a\tb\n1\t2\n", b"cc\t\xe9\n"),
    "conll": (b"a O\n\n", b"\xc3 O\n"),
    "props": (b"a\tX\t-\t-\n\n", b"a\tX\t\xff\t-\n"),
    "srl-lines": (b"0 a ||| B-V\n", b"0 \xe9 ||| B-V\n"),
    "squad": (b'{"data":\n', b"\xff}\n"),
    "e2e": (b"mr,ref\nname[a],b\n", b"name[\xe9],b\n"),
    "webnlg": (b"<a>\n", b"\xe9</a>\n"),
    "dart": (b"[\n", b"\xff]\n"),
    "mrqa": (b'{"header": {}}\n', b'{"context": "\xff"}\n'),
}


@pytest.mark.parametrize("format", FILES)
def test_a_byte_that_is_not_utf8_is_named_by_line_and_place(write, format):
    before, bad = BAD_BYTE[format]
    error = failure(write("a", before + bad), format)
    place = next(place for place, byte in enumerate(bad, start=1) if byte > 0x7F)
    assert error.line == before.count(b"\n") + 1
    assert f"not UTF-8 (byte {place} of the line is 0x{bad[place - 1]:02x})" in str(error)


SQUAD = {
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "Rain fell.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "What fell?",
                            "answers": [{"text": "Rain", "answer_start": 0}],
                        },
                        {"id": "2", "question": "Who fell?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}
MRQA = [
    {"header": {"dataset": "Weather", "mrqa_split": "dev"}},
    {
        "context": "[PAR] Rain fell. It was rain.",
        "qas": [
            {
                "qid": "1",
                "question": "What fell?",
                "answers": ["rain", "water"],
                "detected_answers": [
                    {"text": "rain", "char_spans": [[6, 9], [24, 27]]},
                    {"text": "Rain fell", "char_spans": [[6, 14]]},
                ],
            },
            {"qid": "2", "question": "Who fell?"},
        ],
    },
]
GOOD = {
    "jsonl": ('{"text": "é"}\n\n{"text": "b"}\n', [({"text": "é"}, 1), ({"text": "b"}, 3)]),
    "csv": ("text,n\né,1\n\nb,2\n", [({"text": "é", "n": "1"}, 2), ({"text": "b", "n": "2"}, 4)]),
    "tsv": ("text\tn\né\t1\nb\t2\n", [({"text": "é", "n": "1"}, 2), ({"text": "b", "n": "2"}, 3)]),
    "conll": (
        "É B-X\nb O\n\n\nc O\n",
        [
            ({"tokens": ["É", "b"], "tags": ["B-X", "O"], "lines": [1, 2]}, 1),
            ({"tokens": ["c"], "tags": ["O"], "lines": [5]}, 5),
        ],
    ),
    "props": (
        "É\tN\t-\t-\t(A0*)\nb\tV\tb\tb.01\t(V*)\n\nc\tN\t-\t-\n\nd\tV\td\td.02\t(V*)\n",
        [
            (
                {
                    "tokens": ["É", "b"],
                    "predicate": 1,
                    "lemma": "b",
                    "roleset": "b.01",
                    "tags": ["B-A0", "B-V"],
                    "lines": [1, 2],
                },
                2,
            ),
            (
                {"tokens": ["d"], "predicate": 0, "lemma": "d", "roleset": "d.02", "tags": ["B-V"], "lines": [6]},
                6,
            ),
        ],
    ),
    "srl-lines": (
        "\n1 É b ||| B-A0 B-V\n0 c ||| B-V\n",
        [
            ({"tokens": ["É", "b"], "predicate": 1, "tags": ["B-A0", "B-V"]}, 2),
            ({"tokens": ["c"], "predicate": 0, "tags": ["B-V"]}, 3),
        ],
    ),
    "squad": (
        json.dumps(SQUAD, indent=1),
        [
            (
                {
                    "id": "1",
                    "question": "What fell?",
                    "context": "Rain fell.",
                    "answers": [{"text": "Rain", "answer_start": 0}],
                    "is_impossible": False,
                },
                1,
            ),
            (
                {
                    "id": "2",
                    "question": "Who fell?",
                    "context": "Rain fell.",
                    "answers": [],
                    "is_impossible": True,
                },
                2,
            ),
        ],
    ),
    "e2e": ("mr,ref\nname[é],b\n", [({"source": "name : é", "mr": "name[é]", "target": ["b"]}, 2)]),
    "webnlg": (
        "<e><entry eid='Id7'>\n<modifiedtripleset>\n<mtriple>é | b | c</mtriple></modifiedtripleset></entry></e>",
        [({"id": "a/Id7", "category": "", "source": "| é : b : c"}, 1)],
    ),
    "dart": (json.dumps([{"tripleset": [["é", "b", "c"]]}], indent=1), [({"source": "| é : b : c"}, 1)]),
    "mrqa": (
        "".join(json.dumps(line) + "\n" for line in MRQA),
        [
            (
                {
                    "id": "1",
                    "question": "What fell?",
                    "context": "[PAR] Rain fell. It was rain.",
                    "golds": ["rain", "water"],
                    "answers": [
                        {"text": "Rain", "answer_start": 6},
                        {"text": "rain", "answer_start": 24},
                        {"text": "Rain fell", "answer_start": 6},
                    ],
                },
                2,
            ),
            ({"id": "2", "question": "Who fell?", "context": "[PAR] Rain fell. It was rain."}, 2),
        ],
    ),
}


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["plain", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("format", FILES)
def test_good_files_with_and_without_bom_and_carriage_returns(write, format, end, bom):
    text, records = GOOD[format]
    path = write("a", bom + text.replace("\n", end).encode())
    assert read(path, format) == records


@pytest.mark.parametrize("format", FILES)
def test_packed_files_read_like_plain_ones(write, format):
    text, records = GOOD[format]
    assert read(write("a.gz", gzip.compress(text.encode())), format) == records


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b'{"a": 1}\n', 0),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-9], 9),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-8] + bytes(8), 9),
        (gzip.compress(b'{"a": 1}\n', mtime=0)[:10] + b"\xff" * 9, 0),
    ],
    ids=["plain", "cut", "altered", "damaged"],
)
def test_a_file_that_cannot_be_unpacked(write, content, lines):
    assert f"cannot be unpacked, after {lines} lines (" in str(failure(write("a.jsonl.gz", content)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("format", ["jsonl", "csv", "tsv", "conll", "props", "srl-lines"])
def test_records_come_before_the_file_ends(tmp_path, format):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    first_came = threading.Event()
    waited: list[bool] = []

    def feed():
        text, _ = GOOD[format]
        with pipe.open("wb", buffering=0) as stream:
            stream.write(text.encode())
            waited.append(first_came.wait(timeout=20))  # the file stays open, unfinished, until then

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    records = read_records(pipe, format)
    assert dict(next(records).fields) == GOOD[format][1][0][0]
    first_came.set()
    assert len(list(records)) == 1
    feeder.join(timeout=20)
    assert waited == [True]


# --- jsonl ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"a": "cut o', "ends too early"),
        ('{"a": 1,', "ends too early"),
        ('{"a" 1}', "not valid JSON (Expecting ':' delimiter, character 6)"),
        ("[1, 2]", "expected a JSON object, found a list"),
        ('"text"', "expected a JSON object, found a text"),
        ("null", "expected a JSON object, found null"),
        ("7", "expected a JSON object, found a number"),
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ('{"a": "\\ud800"}', "half of a surrogate pair, '\\ud800'"),
        ('{"a": ' + "[" * 200_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_not_a_json_object(write, line, words):
    error = failure(write("a.jsonl", '{"a": 0}\n\n' + line + "\n"))
    assert error.line == 3
    assert words in str(error)


def test_a_good_surrogate_pair_is_a_character(write):
    assert read(write("a.jsonl", '{"a": "\\ud83d\\ude00"}')) == [({"a": "\N{GRINNING FACE}"}, 1)]


def test_other_line_breaks_belong_to_the_text(write):
    path = write("a.jsonl", '{"a": "x\u2028y\x85z"}\n{"a": "b"}\n')
    assert read(path) == [({"a": "x\u2028y\x85z"}, 1), ({"a": "b"}, 2)]


def test_an_endless_stream_can_be_read():
    lines = (f'{{"n": {number}}}\n' for number in count())
    records = parse_json_lines(lines, "<stdin>")
    assert [next(records).fields["n"] for _ in range(3)] == [0, 1, 2]


def test_an_open_stream_is_named_in_errors():
    stream = io.StringIO('\ufeff{"a": 1}\n{"a"')
    records = parse_json_lines(stream, "<stdin>")
    assert next(records).fields == {"a": 1}
    with pytest.raises(DataError, match=r"^<stdin>:2: not valid JSON"):
        next(records)


def test_a_text_stream_that_is_not_utf8():
    stream = io.TextIOWrapper(io.BytesIO(b'{"a": "\xff"}\n'), encoding="utf-8")
    with pytest.raises(DataError, match=r"^<stdin>: not UTF-8"):
        list(parse_json_lines(stream, "<stdin>"))


# --- csv and tsv ---------------------------------------------------------------------------------


def test_quoted_csv_values_may_hold_commas_quotes_and_line_breaks(write):
    path = write("a.csv", 'text,label\n"a, ""b""\nc",x\nd,y\n')
    assert read(path) == [({"text": 'a, "b"\nc', "label": "x"}, 2), ({"text": "d", "label": "y"}, 4)]


def test_quotes_in_a_tsv_are_ordinary_unless_asked(write):
    path = write("a.tsv", 'text\tlabel\n"a" b\tx\n"c"\t"y\n')
    assert [fields for fields, _ in read(path)] == [
        {"text": '"a" b', "label": "x"},
        {"text": '"c"', "label": '"y'},
    ]
    quoted = write("b.tsv", 'text\tlabel\n"a\tb"\tx\n')
    assert read(quoted, quoting=True) == [({"text": "a\tb", "label": "x"}, 2)]


def test_quotes_in_a_csv_are_ordinary_if_asked(write):
    path = write("a.csv", 'text,label\n"a,x\n')
    assert read(path, quoting=False) == [({"text": '"a', "label": "x"}, 2)]


def test_a_quote_left_open_is_reported_where_it_opens(write):
    error = failure(write("a.csv", 'text,label\na,x\n"b,y\nc,z\n'))
    assert error.line == 3
    assert "quoting = false" in str(error)


def test_a_row_with_too_few_columns_names_the_first_missing_one(write):
    error = failure(write("a.csv", "id,text,label\n1,a,x\n2,b\n"))
    assert (error.line, error.field) == (3, "label")
    assert "a.csv:3: field 'label': found 2 columns, expected 3 (id, text, label)" in str(error)


def test_a_row_with_too_many_columns(write):
    error = failure(write("a.tsv", "text\tlabel\na\tx\ty\n"))
    assert error.line == 2
    assert "found 3 columns, expected 2 (text, label)" in str(error)


def test_a_column_named_twice(write):
    error = failure(write("a.csv", "text,label,text\na,b,c\n"))
    assert (error.line, error.field) == (1, "text")
    assert "comes twice in the header" in str(error)


def test_a_column_without_a_name(write):
    error = failure(write("a.csv", ",text\n0,a\n"))
    assert error.line == 1
    assert "column 1 of the header has no name" in str(error)


# --- conll ---------------------------------------------------------------------------------------


def test_columns_can_be_chosen_and_document_marks_are_skipped(write):
    path = write(
        "a.conll",
        "-DOCSTART- -X- O O\n\nRain NN I-NP O\nin IN I-PP O\n-DOCSTART- -X- O O\nOslo NNP I-NP I-LOC\n",
    )
    assert [fields["tags"] for fields, _ in read(path)] == [["O", "O"], ["I-LOC"]]
    assert [fields["tags"] for fields, _ in read(path, tag_column=1)] == [["NN", "IN"], ["NNP"]]
    assert [line for _, line in read(path)] == [3, 6]


def test_tabs_and_runs_of_spaces_separate_but_no_break_spaces_do_not(write):
    path = write("a.conll", "10\u00a0km \t B-X\n")
    assert read(path)[0][0]["tokens"] == ["10\u00a0km"]


def test_a_given_separator_leaves_spaces_in_tokens(write):
    path = write("a.conll", "New York\tB-LOC\nrain\tO\n")
    assert read(path, separator="\t")[0][0]["tokens"] == ["New York", "rain"]
    error = failure(path)
    assert error.line == 2
    assert "found 2 columns, expected 3" in str(error)


def test_a_line_with_fewer_columns_than_the_first(write):
    error = failure(write("a.conll", "a X O\nb X O\n\nc O\n"))
    assert error.line == 4
    assert "found 2 columns, expected 3" in str(error)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"token_column": 3}, 4), ({"tag_column": -5}, 5), ({"tag_column": 2}, 3)],
)
def test_a_column_that_is_not_there(write, options, expected):
    error = failure(write("a.conll", "\na O\n"), **options)
    (name, value), *_ = options.items()
    assert error.line == 2
    assert f"found 2 columns, expected at least {expected} because {name} = {value}" in str(error)


def test_an_empty_token(write):
    error = failure(write("a.conll", "a\tO\n\tO\n"), separator="\t")
    assert (error.line, error.field) == (2, "tokens")
    assert "is empty" in str(error)


def test_a_file_of_tokens_only_has_no_tags(write):
    assert read(write("a.txt", "a\nb\n")) == [({"tokens": ["a", "b"], "lines": [1, 2]}, 1)]


def test_comments_and_word_ranges_of_universal_dependencies_are_skipped(write):
    path = write("a.conllu", "# text = du a\n1-2\tdu\t_\n1\tde\tADP\n2\tle\tDET\n2.1\tx\t_\n3\t#\tSYM\n")
    [(fields, _)] = read(path, token_column=1)
    assert fields == {"tokens": ["de", "le", "#"], "tags": ["ADP", "DET", "SYM"], "lines": [3, 4, 6]}


def test_a_number_sign_is_a_token_elsewhere(write):
    assert read(write("a.conll", "# O\n5 O\n"))[0][0]["tokens"] == ["#", "5"]


# --- squad ---------------------------------------------------------------------------------------


def changed(*path: str | int, to: Any) -> str:
    """The SQuAD file above with one place in it replaced, or removed for ``to=...``."""
    root = json.loads(json.dumps(SQUAD))
    place = root
    for step in path[:-1]:
        place = place[step]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(root)


QUESTION = ("data", 0, "paragraphs", 0, "qas", 1)
ANSWER = ("data", 0, "paragraphs", 0, "qas", 0, "answers", 0)


@pytest.mark.parametrize(
    ("path", "to", "field", "line", "words"),
    [
        (("data",), ..., "data", None, "missing"),
        (("data",), {}, "data", None, "expected a list, found an object"),
        (("data", 0), "x", "data[0]", None, "expected an object, found a text"),
        (("data", 0, "paragraphs"), ..., "data[0].paragraphs", None, "missing"),
        (("data", 0, "paragraphs", 0), [], "data[0].paragraphs[0]", None, "expected an object, found a list"),
        (("data", 0, "paragraphs", 0, "context"), 3, "data[0].paragraphs[0].context", None, "found a number"),
        (("data", 0, "paragraphs", 0, "qas"), ..., "data[0].paragraphs[0].qas", None, "missing"),
        (QUESTION, None, "data[0].paragraphs[0].qas[1]", 2, "expected an object, found null"),
        ((*QUESTION, "id"), 7, "data[0].paragraphs[0].qas[1].id", 2, "expected a text, found a number"),
        ((*QUESTION, "question"), ..., "data[0].paragraphs[0].qas[1].question", 2, "missing"),
        (
            (*QUESTION, "is_impossible"),
            1,
            "data[0].paragraphs[0].qas[1].is_impossible",
            2,
            "expected a boolean",
        ),
        ((*QUESTION, "answers"), {}, "data[0].paragraphs[0].qas[1].answers", 2, "expected a list"),
        ((*ANSWER, "text"), ..., "data[0].paragraphs[0].qas[0].answers[0].text", 1, "missing"),
        (
            (*ANSWER, "answer_start"),
            "0",
            "data[0].paragraphs[0].qas[0].answers[0].answer_start",
            1,
            "a whole number",
        ),
        (
            (*ANSWER, "answer_start"),
            True,
            "data[0].paragraphs[0].qas[0].answers[0].answer_start",
            1,
            "a boolean",
        ),
        (
            (*ANSWER, "answer_start"),
            -1,
            "data[0].paragraphs[0].qas[0].answers[0].answer_start",
            1,
            "found -1",
        ),
    ],
)
def test_every_level_of_a_squad_file_is_checked(write, path, to, field, line, words):
    error = failure(write("a.json", changed(*path, to=to)))
    assert (error.field, error.line) == (field, line)
    assert words in str(error)


def test_a_squad_file_that_is_a_list(write):
    assert "expected an object, found a list" in str(failure(write("a.json", "[]")))


# --- mrqa ----------------------------------------------------------------------------------------


def change_mrqa(change: Callable[[Any], Any]) -> str:
    lines = json.loads(json.dumps(MRQA))
    change(lines)
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("path", "to", "field", "words"),
    [
        (["context"], 5, "context", "expected a text, found a number"),
        (["qas"], {}, "qas", "expected a list, found an object"),
        (["qas", 0], "x", "qas[0]", "expected an object, found a text"),
        (["qas", 1, "qid"], None, "qas[1].qid", "expected a text, found null"),
        (["qas", 0, "question"], [], "qas[0].question", "expected a text, found a list"),
        (["qas", 0, "answers", 1], 7, "qas[0].answers[1]", "expected a text, found a number"),
        (["qas", 0, "detected_answers", 0], [], "qas[0].detected_answers[0]", "expected an object"),
        (["qas", 0, "detected_answers", 0, "char_spans"], 1, "qas[0].detected_answers[0].char_spans", "a list"),
        *(
            (
                ["qas", 0, "detected_answers", 0, "char_spans", 1],
                span,
                "qas[0].detected_answers[0].char_spans[1]",
                "expected the first and the last of 29 characters, found [",
            )
            for span in ([24], [24, 29], [-1, 3], [9, 8], [1, 2, 3])
        ),
        (
            ["qas", 0, "detected_answers", 0, "char_spans", 1, 0],
            True,
            "qas[0].detected_answers[0].char_spans[1][0]",
            "expected a whole number, found a boolean",
        ),
    ],
)
def test_every_level_of_an_mrqa_file_is_checked(write, path, to, field, words):
    def change(lines: Any) -> None:
        place = lines[1]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    error = failure(write("a.jsonl", change_mrqa(change)), "mrqa")
    assert (error.line, error.field) == (2, field)
    assert words in str(error)


def test_what_an_mrqa_file_lacks_is_named(write):
    error = failure(write("a.jsonl", change_mrqa(lambda lines: lines[1]["qas"][1].pop("question"))), "mrqa")
    assert "a.jsonl:2: field 'qas[1].question': missing" in str(error)
    error = failure(write("a.jsonl", change_mrqa(lambda lines: lines.pop(0))), "mrqa")
    assert "a.jsonl:1: field 'header': missing" in str(error)
    assert "begin with a header line" in str(error)
    assert "no records" in str(failure(write("a.jsonl", change_mrqa(lambda lines: lines.pop(1))), "mrqa"))


def test_questions_without_answers_are_unlabelled(write):
    [_, (fields, _)] = read(write("a.json", changed(*QUESTION, to={"id": "2", "question": "Who?"})))
    assert fields == {"id": "2", "question": "Who?", "context": "Rain fell."}


def test_an_empty_list_of_answers_means_impossible(write):
    [_, (fields, _)] = read(write("a.json", changed(*QUESTION, "is_impossible", to=...)))
    assert (fields["answers"], fields["is_impossible"]) == ([], True)


def test_broken_json_names_its_line(write):
    error = failure(write("a.json", '{\n "data": [\n  {"title": "x",}\n]}'))
    assert error.line == 3
    assert "not valid JSON" in str(error)


# --- datasets ------------------------------------------------------------------------------------


@pytest.fixture
def library():
    return pytest.importorskip("datasets")


def test_a_folder_of_datasets_gives_names_of_labels_and_of_tags(library, tmp_path):
    features = library.Features(
        text=library.Value("string"),
        label=library.ClassLabel(names=["bad", "good"]),
        ner_tags=library.Sequence(library.ClassLabel(names=["O", "B-X"])),
    )
    rows = {"text": ["a", "b"], "label": [1, -1], "ner_tags": [[0, 1], [0]]}
    library.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    assert read(tmp_path / "d") == [
        ({"text": "a", "label": "good", "ner_tags": ["O", "B-X"]}, 1),
        ({"text": "b", "ner_tags": ["O"]}, 2),
    ]


def test_answers_of_a_dataset_become_a_list(library, tmp_path):
    answers = [{"text": ["x", "y"], "answer_start": [0, 4]}, {"text": [], "answer_start": []}]
    library.Dataset.from_dict({"answers": answers}).save_to_disk(tmp_path / "d")
    assert [fields["answers"] for fields, _ in read(tmp_path / "d")] == [
        [{"text": "x", "answer_start": 0}, {"text": "y", "answer_start": 4}],
        [],
    ]


def test_a_split_can_be_chosen_and_a_missing_one_lists_the_others(library, tmp_path):
    part = library.Dataset.from_dict({"text": ["a"]})
    library.DatasetDict(train=part, dev=part.map(lambda row: {"text": "b"})).save_to_disk(tmp_path / "d")
    assert read(tmp_path / "d")[0][0] == {"text": "a"}
    assert read(tmp_path / "d", split="dev")[0][0] == {"text": "b"}
    assert "no split 'test' (there are: train, dev)" in str(failure(tmp_path / "d", split="test"))


def test_a_damaged_folder_and_a_missing_one(library, tmp_path):
    assert "no such folder" in str(failure(tmp_path / "none", "datasets"))
    (tmp_path / "state.json").write_text("{}")
    assert "cannot be loaded as a data set" in str(failure(tmp_path))


def test_a_hub_name_is_split_into_name_and_config(library, monkeypatch):
    asked = []

    def load(name, config, *, split):
        asked.append((name, config, split))
        return library.Dataset.from_dict({"text": ["a"]})

    monkeypatch.setattr(library, "load_dataset", load)
    assert [dict(record.fields) for record in read_records("hub:owner/name/part")] == [{"text": "a"}]
    assert next(read_records("hub:owner/name", options=ReadOptions(split="dev"))).file == "hub:owner/name"
    assert asked == [("owner/name", "part", "train"), ("owner/name", None, "dev")]
    assert "expected hub:owner/name" in str(failure("hub:owner//x"))


def test_a_hub_failure_is_one_line(library, monkeypatch):
    def load(*args, **options):
        raise ConnectionError("cannot reach the hub\nlong story")

    monkeypatch.setattr(library, "load_dataset", load)
    message = str(failure("hub:owner/name"))
    assert message == "hub:owner/name: cannot load split 'train' (cannot reach the hub)"


def test_without_the_library_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install foreword[datasets]" in str(failure(tmp_path, "datasets"))


# --- the real files ------------------------------------------------------------------------------


@needs_real_data
@pytest.mark.parametrize(
    ("name", "format", "records"),
    [
        ("conll2003/eng.testa", "auto", 3250),
        ("conll04/train.txt", "auto", 910),
        ("bc5cdr/train.tsv", "conll", 4560),
        ("squad2.0/dev-v2.0-part.json", "auto", 2769),
        ("squad1.1/train-v1.1-part2.json", "auto", 3644),
        ("squad2.0/train-v2.0-part.json", "auto", 6519),
        ("xquad-en/xquad.en.json", "auto", 1190),
        ("policyqa/dev.json", "auto", 3809),
        ("superglue-boolq/val.jsonl", "auto", 2616),
        ("superglue-multirc/val.jsonl", "auto", 66),
        ("sst2/dev.tsv", "auto", 872),
        ("mrpc/msr_paraphrase_train.txt", "tsv", 4076),
        ("qqp/dev.tsv", "auto", 2000),
        ("agnews/dev.csv", "auto", 1000),
        ("e2e/dev.csv", "auto", 832),
    ],
)
def test_real_files_have_as_many_records_as_published(name, format, records):
    assert sum(1 for _ in read_records(real_data() / name, format)) == records


@needs_real_data
def test_real_conll_files_have_as_many_tokens_as_published():
    sentences = list(read_records(real_data() / "conll2003" / "eng.testa"))
    assert sum(len(sentence.fields["tokens"]) for sentence in sentences) == 51_362
    assert {tag for sentence in sentences for tag in sentence.fields["tags"]} >= {"O", "I-PER", "I-MISC"}


@needs_real_data
def test_real_squad_answers_stand_where_they_say():
    records = list(read_records(real_data() / "squad2.0" / "dev-v2.0-part.json"))
    assert sum(record.fields["is_impossible"] for record in records) == 1390
    for record in records:
        for answer in record.fields["answers"]:
            assert record.fields["context"].startswith(answer["text"], answer["answer_start"])


@needs_real_data
@pytest.mark.parametrize("name", ["xquad-en/xquad.en.json", "policyqa/dev.json"])
def test_questions_of_other_domains_are_read_by_the_task(name):
    """All of them have an answer, and every answer stands where its file says."""
    examples = QA().read(read_records(real_data() / name), labelled=True)
    assert QA().with_labels_from(examples).unanswerable is False
    assert len({example.id for example in examples}) == len(examples)
