"""E2E, WebNLG and DART: what is in the files, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreword.data.readers import read_records
from foreword.errors import DataError
from real_data import needs_real_data, real_data

WEBNLG = """<?xml version="1.0" encoding="UTF-8"?>
<benchmark><entries>
  <entry category="Airport" eid="Id1" size="2">
    <originaltripleset><otriple>A | b | C</otriple></originaltripleset>
    <modifiedtripleset><mtriple>Aarhus | leader | Jacob_B</mtriple><mtriple>Airport | city | "A, B"</mtriple>
    </modifiedtripleset>
    <lex comment="good" lid="Id1">Jacob B &amp; Aarhus.</lex>
    <lex comment="toFix" lid="Id2"> The airport. </lex>
  </entry>
  <entry category="Food" eid="Id2" size="1"><modifiedtripleset><mtriple>a | b | c</mtriple></modifiedtripleset></entry>
</entries></benchmark>
"""
DART = [
    {
        "tripleset": [["Mars Hill", "JOINED", "1973"], ["Mars Hill", "STATE", " Iowa "]],
        "subtree_was_extended": True,
        "annotations": [{"source": "x", "text": "It joined."}, {"source": "y", "text": "In 1973, Mars Hill joined."}],
    },
    {"tripleset": [["[TABLECONTEXT]", "TITLE", "Clubs"]]},
]


@pytest.fixture
def write(tmp_path):
    def written(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        return path

    return written


def read(path: Path | str, format: str) -> list[tuple[dict, int]]:
    return [(dict(record.fields), record.line) for record in read_records(path, format)]


def failure(path: Path, format: str) -> str:
    with pytest.raises(DataError) as caught:
        list(read_records(path, format))
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def test_e2e_rows_of_one_representation_are_one_record(write):
    first, second = "name[Aromi], customer rating[5 out of 5], familyFriendly[yes]", "name[The Vaults]"
    rows = f'mr,ref\n"{first}",Aromi is good.\n{second}, The Vaults. \n"{first}","Good, says Aromi."\n'
    assert read(write("dev.csv", rows), "e2e") == [
        (
            {
                "source": "name : Aromi | customer rating : 5 out of 5 | familyFriendly : yes",
                "mr": first,
                "target": ["Aromi is good.", "Good, says Aromi."],
            },
            2,
        ),
        ({"source": "name : The Vaults", "mr": second, "target": ["The Vaults."]}, 3),
    ]


def test_e2e_test_files_have_no_texts(write):
    assert read(write("test.csv", "MR\nname[Aromi]\n"), "e2e") == [({"source": "name : Aromi", "mr": "name[Aromi]"}, 2)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("name,ref\na,b\n", "field 'mr': missing (this record has: name, ref)"),
        ("mr,ref\nname,b\n", "field 'mr': expected name[value], name[value], ..., found 'name'"),
        ("mr,ref\nname[a] food[b],b\n", "found 'name[a] food[b]'"),
        ('mr,ref\n"name[a],food",b\n', "found 'food'"),
        ("mr,ref\nname[a],\n", ":2: field 'ref': is empty"),
        ("", "no records in it"),
    ],
)
def test_e2e_mistakes(write, rows, says):
    assert says in failure(write("dev.csv", rows), "e2e")


def test_webnlg_entries(write):
    found = read(write("1triples/Airport.xml", WEBNLG), "auto")
    assert found == [
        (
            {
                "id": "Airport/Id1",
                "category": "Airport",
                "source": '| Aarhus : leader : Jacob_B | Airport : city : "A, B"',
                "target": ["Jacob B & Aarhus.", "The airport."],
            },
            1,
        ),
        ({"id": "Airport/Id2", "category": "Food", "source": "| a : b : c"}, 2),
    ]


def test_webnlg_folders_are_read_in_the_order_of_their_names(write):
    for name in ("2triples/b.xml", "1triples/c.xml", "1triples/a.xml"):
        folder = write(name, WEBNLG).parents[1]
    assert [fields["id"] for fields, _ in read(folder, "webnlg")][::2] == ["a/Id1", "c/Id1", "b/Id1"]
    (folder / "empty").mkdir()
    assert "no .xml files in this folder" in failure(folder / "empty", "webnlg")


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a><entry>&y;</entry></a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><entry>&x;</entry></a>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<benchmark>", "not valid XML"),
        ("", "not valid XML"),
        (BOMB, "has a document type (<!DOCTYPE)"),
        (OUTSIDE, "has a document type (<!DOCTYPE)"),
        ("<a>&x;</a>", "not valid XML (undefined entity"),
        ("<a><entry/></a>", ":1: field 'modifiedtripleset': an entry without triples"),
        (WEBNLG.replace("a | b | c", "a | b"), ":2: field 'mtriple': expected 'subject | predicate | object'"),
        ("<a/>", "no records in it"),
    ],
)
def test_webnlg_mistakes(write, text, says):
    assert says in failure(write("dev.xml", text), "webnlg")


def test_dart_sets(write):
    assert read(write("dev.json", json.dumps(DART)), "dart") == [
        (
            {
                "source": "| Mars Hill : JOINED : 1973 | Mars Hill : STATE : Iowa",
                "target": ["It joined.", "In 1973, Mars Hill joined."],
            },
            1,
        ),
        ({"source": "| [TABLECONTEXT] : TITLE : Clubs"}, 2),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[", "not valid JSON"),
        ("{}", "expected a list of sets of triples, found an object"),
        ("[3]", ":1: expected a dictionary of fields, found int"),
        ("[]", "no records in it"),
        ('[{"annotations": []}]', ":1: field 'tripleset': missing"),
        ('[{"tripleset": []}]', ":1: field 'tripleset': expected a list of [subject, predicate, object]"),
        ('[{"tripleset": [["a", "b"]]}]', "field 'tripleset': expected a list of"),
        ('[{"tripleset": [["a", "b", 3]]}]', "field 'tripleset': expected a list of"),
        ('[{"tripleset": [["a", "b", "c"]], "annotations": []}]', "field 'annotations': expected a list of"),
        ('[{"tripleset": [["a", "b", "c"]], "annotations": [{"text": " "}]}]', "field 'annotations': expected"),
    ],
)
def test_dart_mistakes(write, content, says):
    assert says in failure(write("dev.json", content), "dart")


@needs_real_data
@pytest.mark.parametrize(
    ("name", "format", "records", "texts"),
    [
        ("e2e/train_from_devset.csv", "e2e", 450, 3840),
        ("e2e/dev.csv", "e2e", 97, 832),
        ("webnlg2017/train", "webnlg", 6940, 18102),
        ("webnlg2017/dev", "webnlg", 872, 2268),
        ("dart/dart-v1.1.1-full-dev.json", "dart", 2768, 6980),
    ],
)
def test_the_files_hold_what_their_readme_says(name, format, records, texts):
    found = [record.fields for record in read_records(real_data() / name, format)]
    assert len(found) == records
    assert sum(len(fields["target"]) for fields in found) == texts
    assert all(fields["source"].strip() for fields in found)


@needs_real_data
@pytest.mark.parametrize(("side", "records"), [("train", 700), ("dev", 100)])
def test_xsum(side, records):
    found = list(read_records(real_data() / "xsum-subset" / f"{side}.jsonl"))
    assert len(found) == records
    assert all(record.text("document") and record.text("summary") for record in found)
