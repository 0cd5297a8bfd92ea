"""Readers of propositions: bracketed columns, and a line each."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.examples import Entity
from foreword.data.readers import ReadOptions, read_records
from foreword.data.spans import entities_to_tags, tags_to_entities
from foreword.errors import DataError
from real_data import needs_real_data, real_data

TWO = """\
She\tPRP\t-\t-\t(ARG0*)\t(ARG0*)
stopped\tVBD\tstop\tstop.01\t(V*)\t*
to\tTO\t-\t-\t(ARG1*\t*
look\tVB\tlook\tlook.01\t*\t(V*
up\tRP\t-\t-\t*)\t*)

Rain\tNN\t-\t-
"""


@pytest.fixture
def read(tmp_path):
    def read(content: str, format: str = "props", **options):
        path = tmp_path / "a"
        path.write_text(content, "utf-8")
        return list(read_records(path, format, ReadOptions(**options)))

    return read


def refused(read, content: str, format: str = "props") -> DataError:
    with pytest.raises(DataError) as caught:
        read(content, format)
    return caught.value


class TestProps:
    def test_one_record_per_predicate(self, read):
        first, second = read(TWO)
        assert first.fields["tokens"] == second.fields["tokens"] == ["She", "stopped", "to", "look", "up"]
        assert (first.fields["predicate"], first.fields["lemma"], first.fields["roleset"]) == (1, "stop", "stop.01")
        assert (second.fields["predicate"], second.line) == (3, 4)
        assert first.fields["tags"] == ["B-ARG0", "B-V", "B-ARG1", "I-ARG1", "I-ARG1"]
        assert second.fields["tags"] == ["B-ARG0", "O", "O", "B-V", "I-V"]

    def test_spaces_in_tokens_and_another_separator(self, read):
        assert read("New York\tN\tx\tx.01\t(V*)\n")[0].fields["tokens"] == ["New York"]
        assert read("a N x x.01 (V*)\n", separator=" ")[0].fields["tags"] == ["B-V"]

    @pytest.mark.parametrize(
        ("content", "line", "field", "says"),
        [
            ("a\tN\t-\n", 1, None, "found 3 columns, expected at least 4 (token, POS, lemma, roleset)"),
            ("a N x x.01 (V*)\n", 1, None, "set [data] separator"),
            ("a\tN\t-\t-\t*\nb\tV\tb\tb.01\n", 2, None, "found 4 columns, expected 5: 4 and one for each of the 1"),
            ("\na\tN\t-\t-\t*\n", 2, None, "found 5 columns, expected 4: 4 and one for each of the 0"),
            ("a\tN\t-\t-\t*\n \tV\tb\tb.01\t(V*)\n", 2, "token", "is empty"),
            ("a\tN\t\t-\t*\n", 1, "lemma", "is empty"),
            ("a\tN\tx\tx.01\tB-V\n", 1, "column 5", "expected *, *), (ROLE* or (ROLE*), found 'B-V'"),
            ("a\tN\tx\tx.01\t\n", 1, "column 5", "found ''"),
            ("a\tN\tx\tx.01\t(A(B*))\n", 1, "column 5", "found '(A(B*))'"),
            (
                "a\tN\tx\tx.01\t(A*\nb\tN\t-\t-\t(B*)\n",
                2,
                "column 5",
                "(B opens inside of (A, which nothing has closed",
            ),
            ("a\tN\tx\tx.01\t(V*)\nb\tN\t-\t-\t*)\n", 2, "column 5", "closes a role that nothing has opened"),
            (TWO.replace("*)\t*)", "*)\t*"), 4, "column 6", "(V is not closed by the end of its sentence"),
        ],
    )
    def test_mistakes(self, read, content, line, field, says):
        error = refused(read, content)
        assert (error.line, error.field) == (line, field)
        assert says in str(error)


class TestLines:
    def test_tokens_that_look_like_the_bar(self, read):
        (record,) = read("2 ||| a b ||| O B-A0 B-V\n", "srl-lines")
        assert record.fields == {"tokens": ["|||", "a", "b"], "predicate": 2, "tags": ["O", "B-A0", "B-V"]}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("1 a b B-A0 B-V\n", "expected 'index token token ... ||| tag tag ...', found no |||"),
            ("1 a b ||| B-A0\n", "found 2 tokens before ||| and 1 tags behind"),
            ("a b c ||| O O\n", "expected the predicate's index first, found 'a'"),
            ("-1 b ||| O\n", "expected the predicate's index first, found '-1'"),
            ("|||\n", "expected the predicate's index first, found ''"),
        ],
    )
    def test_mistakes(self, read, content, says):
        error = refused(read, "0 a ||| B-V\n" + content, "srl-lines")
        assert error.line == 2
        assert says in str(error)


@st.composite
def propositions(draw):
    """A sentence's words, its predicates, and the roles of each."""
    length = draw(st.integers(1, 8))
    predicates = sorted(draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=3)))
    roles = []
    for _ in predicates:
        spans, at = [], 0
        while at < length:
            width = draw(st.integers(0, 3))
            if width:
                spans.append(Entity(at, min(at + width, length), draw(st.sampled_from(["A0", "C-A0", "V"]))))
            at += max(width, 1)
        roles.append(spans)
    return [f"w{i}" for i in range(length)], predicates, roles


@given(case=propositions())
def test_what_is_written_is_read_back(tmp_path_factory, case):
    words, predicates, roles = case
    columns = [["*"] * len(words) for _ in predicates]
    for column, spans in zip(columns, roles, strict=True):
        for start, end, role in spans:
            column[start] = f"({role}" + column[start]
            column[end - 1] += ")"
    rows = [
        [word, "X", *(("p", "p.01") if i in predicates else ("-", "-")), *(column[i] for column in columns)]
        for i, word in enumerate(words)
    ]
    folder = tmp_path_factory.mktemp("props")
    (folder / "a.props").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    lines = [
        " ".join([str(predicate), *words, "|||", *entities_to_tags(spans, len(words), "IOB2")])
        for predicate, spans in zip(predicates, roles, strict=True)
    ]
    (folder / "a.lines").write_text("\n".join(lines) + "\n")
    for records in (read_records(folder / "a.props"), read_records(folder / "a.lines", "srl-lines")):
        for predicate, spans, record in zip(predicates, roles, records, strict=True):
            assert record.fields["tokens"] == words
            assert record.fields["predicate"] == predicate
            assert list(tags_to_entities(record.fields["tags"], "IOB2")) == spans


@needs_real_data
@pytest.mark.parametrize(
    ("name", "propositions", "with_arguments", "labels"),
    [
        ("srl-ewt/train.props", 40_439, 33_485, 59),
        ("srl-ewt/dev.props", 4960, 4130, 45),
        ("srl-masc/train.props", 8533, 6870, 45),
        ("srl-masc/dev.props", 782, 674, 29),
    ],
)
def test_real_files_have_what_their_description_counts(name, propositions, with_arguments, labels):
    found, roles = Counter[str](), Counter[str]()
    for record in read_records(real_data() / name):
        here = {role for _, _, role in tags_to_entities(record.fields["tags"], "IOB2")}
        found.update(["propositions", *(["with arguments"] if here - {"V"} else [])])
        roles.update(here)
        assert record.fields["lemma"] != "-"
    assert (found["propositions"], found["with arguments"], len(roles)) == (propositions, with_arguments, labels)
