"""One HTML page about a study: what each method reached on each task, and at what cost.

The page needs nothing but itself: style and charts are inline, and it asks the network for nothing.
The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from foreword.studies.page import TONES, write_page
from foreword.studies.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_chart
from foreword.studies.report.results import Run, contests, headline


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled stretch of characters, ``[start, end)``."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One prediction, to be looked at.

    Attributes:
        task: the task it belongs to, as in `Run`.
        text: what was read.
        marks: what was found in ``text``, sorted and free of overlaps.
        prediction: the prediction in words; may be empty where the marks say it all.
        expected: the gold answer in words, where there is one.
        correct: whether the prediction is right, where that is known.
        question: what was asked about ``text``.

    Raises:
        ValueError: marks are unsorted, overlap, are empty, or leave the text.
    """

    task: str
    text: str
    marks: tuple[Mark, ...]
    prediction: str
    expected: str | None
    correct: bool | None
    question: str | None = None

    def __post_init__(self) -> None:
        for mark in self.marks:
            if not 0 <= mark.start < mark.end <= len(self.text):
                raise ValueError(f"{mark} is empty or leaves a text of {len(self.text)} characters")
        for before, after in pairwise(self.marks):
            if after.start < before.end:
                raise ValueError(f"{after} overlaps or comes before {before}")

    def segments(self) -> Iterator[tuple[str, str | None]]:
        """The whole text in pieces, each with its mark's label or ``None``."""
        done = 0
        for mark in self.marks:
            if done < mark.start:
                yield self.text[done : mark.start], None
            yield self.text[mark.start : mark.end], mark.label
            done = mark.end
        if done < len(self.text):
            yield self.text[done:], None


def write_report(
    path: Path,
    *,
    title: str,
    intro: str,
    runs: Sequence[Run],
    shown: Sequence[Shown],
    facts: Mapping[str, str],
) -> None:
    """Write the page to ``path``, at once or not at all; what was there is replaced.

    Args:
        path: the file to write.
        title: heading of the page.
        intro: what was studied, in a sentence or three.
        runs: the results.
        shown: example predictions; may be empty.
        facts: what else to know: backbone, versions, seed, and so on.

    Raises:
        ValueError: there are no runs.
        OutputError: the file cannot be written.
    """
    grouped = contests(runs)
    tones = _tones(runs)
    write_page(
        path,
        "report/report.html.j2",
        title=title,
        intro=intro,
        headline=headline(runs),
        contests=grouped,
        tones=tones,
        charts=[draw_chart(contest, tones) for contest in grouped if any(run.curve for run in contest.runs)],
        shown=_by_task(shown),
        label_tones=_label_tones(shown),
        facts=facts,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
    )


def _tones(runs: Sequence[Run]) -> dict[str, int]:
    """A colour for each method, the first for the one the page is about."""
    methods = dict.fromkeys(run.method for run in sorted(runs, key=lambda run: not run.is_prompt))
    return {method: index % TONES for index, method in enumerate(methods)}


def _label_tones(shown: Sequence[Shown]) -> dict[str, int]:
    """A colour for each label, in order of appearance."""
    labels = dict.fromkeys(mark.label for one in shown for mark in one.marks)
    return {label: index % TONES for index, label in enumerate(labels)}


def _by_task(shown: Sequence[Shown]) -> dict[str, list[Shown]]:
    grouped: dict[str, list[Shown]] = {}
    for one in shown:
        grouped.setdefault(one.task, []).append(one)
    return grouped
