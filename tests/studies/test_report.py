import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from foreword.errors import OutputError
from foreword.methods import METHODS
from foreword.studies import wording
from foreword.studies.report import charts
from foreword.studies.report.report import Mark, Shown, write_report
from foreword.studies.report.results import CurvePoint, Run, contests, headline
from foreword.studies.report.results_table import write_table

CURVE = tuple(CurvePoint(step, step / 10, 2.0 / step, 0.5 + step / 1000) for step in (50, 100, 150, 200))


def run(task="notices", method="ptuning-v2", value=0.9, trained=184_320, size=737_280, **changes):
    made = Run(task, "made", method, "f1", value, trained, 22_713_216, size, 123.0, CURVE)
    return replace(made, **changes)


RUNS = [
    run(),
    run(method="fine-tuning", value=0.95, trained=22_713_600, size=90_854_400),
    run(method="head-only", value=0.37, trained=3_003, size=12_012),
    run("tickets", metric="accuracy", value=0.931),
    run("tickets", "fine-tuning", 0.946, 22_713_601, 90_854_404, metric="accuracy"),
]


PEOPLE = (Mark(0, 3, "PER"), Mark(8, 10, "PER"))


def shown(text="Ana met Bo", marks=PEOPLE, **changes):
    return replace(Shown("notices", text, tuple(marks), "", None, None), **changes)


class Page(HTMLParser):
    """Elements of a page with their attributes, the text in them, and where marks begin and end."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.texts, self.marks = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if attributes.get("class", "").startswith("text"):
            self.texts.append("")
            self.marks.append([])
        if tag == "mark":
            self.marks[-1].append([len(self.texts[-1]), None, ""])
        if tag not in self.VOID:
            self.open.append((tag, attributes.get("class") or ""))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag
        if tag == "mark":
            self.marks[-1][-1][1] = len(self.texts[-1])

    def handle_data(self, data):
        classes = [name for _, name in self.open]
        if "tag" in classes:
            self.marks[-1][-1][2] += data
        elif any(name.startswith("text") for name in classes):
            self.texts[-1] += data


def page(tmp_path, runs=RUNS, shown=(), title="A study", intro="What it is.", facts=None):
    path = tmp_path / "report.html"
    write_report(path, title=title, intro=intro, runs=runs, shown=shown, facts=facts or {"Seed": "11"})
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    return path.read_bytes().decode("utf-8")


def test_the_methods_named_are_the_library_s():
    assert set(wording.METHOD_NAMES) == set(METHODS)


def test_all_that_is_given_is_escaped(tmp_path):
    bad = "<script>alert('&amp;')</script>\"x"
    source = page(
        tmp_path,
        runs=[run(bad, data=bad, metric=bad), run(bad, bad, data=bad, metric=bad)],
        shown=[shown(bad, [Mark(0, 8, bad)], task=bad, prediction=bad, expected=bad, question=bad)],
        title=bad,
        intro=bad,
        facts={bad: bad},
    )
    parsed = Page(source)
    assert "script" not in {tag for tag, _ in parsed.elements}
    assert "<script" not in source
    assert parsed.texts == [bad]
    assert parsed.marks == [[[0, 8, bad]]]


@pytest.mark.parametrize(
    "text",
    [
        "Ana met Bo",
        "\n  Ana \n\n &lt; Bo  ",
        "Zoë 👩‍🔬 e\u0301t Bo & <b>",
        "יעל כהן בחיפה",
        "\u202eabcdefghij\u202c",
    ],
)
def test_marks_sit_at_the_characters_they_name(tmp_path, text):
    marks = [Mark(0, 3, "PER"), Mark(3, 5, "B-<LOC>"), Mark(8, len(text), "יום")]
    parsed = Page(page(tmp_path, shown=[shown(text, marks), shown(text, [])]))
    assert parsed.texts == [text, text]
    assert parsed.marks == [[[mark.start, mark.end, mark.label] for mark in marks], []]


def test_a_text_that_utf_8_cannot_hold_is_written_all_the_same(tmp_path):
    assert "&#55296;" in page(tmp_path, shown=[shown("a\ud800b", [])])


@pytest.mark.parametrize(
    "marks",
    [
        [Mark(0, 4, "A"), Mark(3, 6, "B")],
        [Mark(5, 6, "A"), Mark(0, 2, "B")],
        [Mark(2, 2, "A")],
        [Mark(-1, 2, "A")],
        [Mark(8, 11, "A")],
    ],
)
def test_marks_that_cannot_be_drawn_are_refused(marks):
    with pytest.raises(ValueError, match="Mark"):
        shown(marks=marks)


def test_the_page_needs_nothing_but_itself(tmp_path):
    source = page(tmp_path, shown=[shown()])
    elements = Page(source).elements
    assert "http://" not in source
    assert "https://" not in source
    assert "@import" not in source
    assert "url(" not in source
    assert {tag for tag, _ in elements}.isdisjoint({"script", "img", "iframe", "object", "embed"})
    linked = [value for _, given in elements for name, value in given.items() if name in {"src", "href"}]
    assert linked == ["data:,"]


def test_every_run_appears_with_its_numbers(tmp_path):
    source = page(tmp_path)
    assert source.count('<th scope="row">') == len(RUNS)
    for text in ("95.0%", "94.6%", "94.7%", "98.4%", "184,320", "22,713,601", "0.81%", "737 kB", "90.9 MB"):
        assert text in source
    assert source.count("2 min 03 s") == len(RUNS)
    assert source.count('<circle class="hit"') == len(RUNS) * len(CURVE)
    assert "P-Tuning v2: 70.0% at step 200, 20.0 s, training loss 0.01" in source


def test_every_drawing_has_a_name_or_is_hidden_and_ids_are_unique(tmp_path):
    elements = Page(page(tmp_path)).elements
    ids = [given["id"] for _, given in elements if "id" in given]
    assert len(ids) == len(set(ids))
    for given in (given for tag, given in elements if tag == "svg"):
        named = given.get("role") == "img" and set(given["aria-labelledby"].split()) <= set(ids)
        assert named or given.get("aria-hidden") == "true"


def test_the_same_study_gives_the_same_bytes(tmp_path):
    assert page(tmp_path, shown=[shown()]) == page(tmp_path, shown=[shown()])


def test_what_is_absent_leaves_no_section(tmp_path):
    source = page(tmp_path, runs=[run(curve=())])
    assert "Learning curves" not in source
    assert "Example predictions" not in source
    assert "<td>\u2013</td>" in source


@pytest.mark.parametrize("values", [(0.0,), (1.0,), (0.5, 0.5), (0.0, 1.0), (0.9101, 0.9102)])
def test_curves_of_any_shape_stay_inside_their_axes(tmp_path, values):
    curve = tuple(CurvePoint(step, 0.0, 0.0, value) for step, value in enumerate(values))
    source = page(tmp_path, runs=[run(curve=curve)])
    for tag, given in Page(source).elements:
        if tag == "circle":
            assert charts.LEFT <= float(given["cx"]) <= charts.RIGHT
            assert charts.TOP <= float(given["cy"]) <= charts.BOTTOM


def test_the_headline_compares_with_fine_tuning():
    assert headline(RUNS) == (
        "Of fine-tuning's score, P-Tuning v2 reaches 94.7% on notices and 98.4% on tickets, "
        "with 0.81% of the trained parameters and 0.81% of the bytes."
    )


def test_the_headline_makes_do_with_less():
    assert headline([RUNS[0]]) == ("P-Tuning v2 reaches 90.0% F1 on notices, training 0.81% of the backbone's size.")
    assert headline([RUNS[1], RUNS[2]]) == "Fine-tuning reaches 95.0% F1 on notices, the best of all runs."
    with pytest.raises(ValueError, match="no runs"):
        headline([])


def test_only_like_is_compared_with_like():
    grouped = contests([*RUNS, run(data="others", value=0.2)])
    assert [(contest.data, len(contest.runs)) for contest in grouped] == [
        ("made", 3),
        ("made", 2),
        ("others", 1),
    ]
    assert grouped[2].of_full(grouped[2].runs[0]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 93.1},
        {"value": float("nan")},
        {"file_bytes": -1},
        {"backbone_parameters": 0},
        {"curve": CURVE[::-1]},
    ],
)
def test_runs_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fraction|negative|backbone|rise"):
        run(**wrong)


def test_a_report_that_cannot_be_written_leaves_what_was_there(tmp_path):
    taken = tmp_path / "report.html"
    taken.mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        page(tmp_path)
    assert list(tmp_path.iterdir()) == [taken]
    with pytest.raises(OutputError):
        page(tmp_path / "missing")


@pytest.mark.parametrize(
    ("write", "number", "written"),
    [
        (wording.share, 0.0, "0%"),
        (wording.share, 0.000132, "0.013%"),
        (wording.share, 0.00823, "0.82%"),
        (wording.share, 0.0423, "4.2%"),
        (wording.share, 1.0001, "100%"),
        (wording.size, 999, "999 B"),
        (wording.size, 1_000, "1.0 kB"),
        (wording.size, 749_400, "749 kB"),
        (wording.size, 999_900, "1.0 MB"),
        (wording.size, 2_400_000_000_000, "2400 GB"),
        (wording.duration, 4.25, "4.2 s"),
        (wording.duration, 59.97, "1 min 00 s"),
        (wording.duration, 3_599.8, "1 h 00 min"),
        (wording.duration, 7_500, "2 h 05 min"),
    ],
)
def test_numbers_are_written_for_people(write, number, written):
    assert write(number) == written


def test_the_terminal_table_fits_and_holds_the_numbers():
    runs = [*RUNS, run("[bold]a task", "ptuning-v2 with a long variant", data="d" * 100, trained=1_234_567_890)]
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(write_table(runs))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for number in ("90.0%", "94.7%", "184,320", "0.81%", "737 kB", "90.9 MB", "2 min 03 s", "1,234,567,890"):
        assert number in text
    assert "[bold]a task" in text
    assert "…" not in text
