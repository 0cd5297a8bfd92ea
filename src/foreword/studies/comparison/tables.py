"""The tables of a comparison in words, for whatever shows them: the first row of each is its header."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from foreword.studies.comparison.comparison import Comparison, Entry
from foreword.studies.comparison.published import Published, published_on
from foreword.studies.wording import FULL, PROMPT, duration, listed, metric_name, share, size, span, spread

Row = tuple[str, ...]

COST_NOTE = (
    "Means over seeds. Memory is what training adds at most to what stands before it (backbone, data). Where "
    "processes share a machine, times are those of a shared machine."
)
PAPERS_NOTE = (
    "Other backbones and other budgets: scores cannot be compared with ours, but how near P-Tuning v2 comes to "
    "fine-tuning can."
)


@dataclass(frozen=True)
class ScoreCell:
    """One method on one data set in words.

    Attributes:
        words: mean and deviation.
        ratio: to fine-tuning; empty for fine-tuning itself, and where there is none.
        best: whether it is the best on its data.
    """

    words: str
    ratio: str
    best: bool


@dataclass(frozen=True)
class ScoreRow:
    """One data set in words, or one method.

    Attributes:
        heads: its name, and of a data set the metric; as many as the table's corner has.
        cells: one per column.
    """

    heads: tuple[str, ...]
    cells: tuple[ScoreCell, ...]


@dataclass(frozen=True)
class ScoreTable:
    """All scores in words.

    Attributes:
        corner: what the rows are, and, of data sets, what the scores of each are.
        columns: what they are called.
        rows: in order.
    """

    corner: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]


def introduction(comparison: Comparison) -> str:
    """What the scores are, in a few sentences."""
    tested = all(entry.tested for entry in comparison.entries)
    where = "test data that nothing was selected on" if tested else "test data, or where there are none on dev data"
    several = len(comparison.seeds) > 1
    seeds = f"seed{'s' if several else ''} {listed([str(seed) for seed in comparison.seeds])}"
    over = f"{seeds}: mean ± sample standard deviation" if several else seeds
    ratio = "" if comparison.baseline is None else " With it the ratio to fine-tuning."
    done, whole = comparison.cells
    unfinished = "" if done == whole else f" {done} of {whole} cells are finished; n seeds where not all are."
    return f"Percent on {where}, {over}. The best on each data set is bold.{ratio}{unfinished}"


def headline(comparison: Comparison) -> str:
    """How near P-Tuning v2 comes to fine-tuning, in one sentence; empty where one of both is missing."""
    summary = next((one for one in comparison.summaries() if one.method == comparison.prompt), None)
    if summary is None:
        return ""
    entries = [entry for entry in comparison.entries if entry.method == summary.method and entry.results]
    data, worst = summary.worst
    several = f"on average over {len(summary.ratios)} data sets and {worst:.1%} at worst ({data})"
    return (
        f"{comparison.label(summary.method)} reaches {summary.mean:.1%} of fine-tuning's score "
        f"{several if len(summary.ratios) > 1 else f'on {data}'}, training {span([entry.share for entry in entries])} "
        "of the backbone's size."
    )


def score_table(comparison: Comparison) -> ScoreTable:
    """Every data set with its methods, or, of many methods, every method with its data sets."""
    metrics = {data: metric_name(comparison.metric(data) or "") for data in comparison.data}
    rows = tuple(
        ScoreRow(
            (comparison.label(line),) if comparison.methods_down else (line, metrics[line]),
            tuple(_score(comparison, comparison.at(line, column)) for column in comparison.columns),
        )
        for line in comparison.lines
    )
    if comparison.methods_down:
        columns = (f"{data}, {metric}" if metric else data for data, metric in metrics.items())
        return ScoreTable(("Method",), tuple(columns), rows)
    return ScoreTable(("Data", "Metric"), tuple(map(comparison.label, comparison.columns)), rows)


def summary_rows(comparison: Comparison) -> Iterator[Row]:
    """Every method by its ratio to fine-tuning."""
    yield ("Method", "Data sets", "Mean ratio", "Worst ratio", "On")
    for summary in comparison.summaries():
        data, worst = summary.worst
        label = comparison.label(summary.method)
        yield (label, str(len(summary.ratios)), _ratio(summary.mean), _ratio(worst), data)


def cost_rows(comparison: Comparison) -> Iterator[Row]:
    """Every method on every data set: parameters, size, time, memory, and what its search chose."""
    yield ("Data", "Method", "Trained", "Of backbone", "Kept", "Training", "Per step", "Memory", "Chosen")
    for entry in comparison.entries:
        if entry.results:
            yield (
                entry.data,
                comparison.label(entry.method),
                f"{entry.trained:,}",
                share(entry.share),
                size(entry.bytes),
                duration(entry.seconds),
                f"{1000 * entry.seconds_per_step:,.0f} ms",
                size(entry.peak_memory) if entry.peak_memory else "-",
                ", ".join(one.partition(".")[2].replace("=", " = ") for one in entry.settings or ()) or "-",
            )


def paper_rows(comparison: Comparison) -> Iterator[Row]:
    """Fine-tuning and P-Tuning v2, ours and as published."""
    yield ("Data", "Backbone", "Fine-tuning", "P-Tuning v2", "Ratio")
    for full, prompt, papers in _beside_papers(comparison):
        yield (full.data, "ours", _spread(full), _spread(prompt), _ratio(comparison.ratio(prompt)))
        for one in papers:
            base, score = one.scores[FULL], one.scores[PROMPT]
            yield (full.data, one.backbone, spread(base, None), spread(score, None), _ratio(score / base))


def sources(comparison: Comparison) -> str:
    """Which papers and tables `paper_rows` is from."""
    papers = [one for _, _, several in _beside_papers(comparison) for one in several]
    return f"{'; '.join(dict.fromkeys(one.source for one in papers))}."


def failures(comparison: Comparison) -> list[str]:
    """Every cell that failed, and why."""
    return [
        f"{entry.data}, {comparison.label(entry.method)}, {error}"
        for entry in comparison.entries
        for error in entry.errors
    ]


def _score(comparison: Comparison, entry: Entry | None) -> ScoreCell:
    if entry is None or entry.mean is None:
        return ScoreCell("failed" if entry is not None and entry.errors else "-", "", best=False)
    ratio = None if entry.method == comparison.baseline else comparison.ratio(entry)
    return ScoreCell(_spread(entry), "" if ratio is None else _ratio(ratio), comparison.is_best(entry))


def _spread(entry: Entry) -> str:
    """Mean and deviation, and of how many seeds if not of all."""
    missing = f" (n = {len(entry.results)})" if len(entry.results) < entry.seeds else ""
    return "-" if entry.mean is None else spread(entry.mean, entry.deviation) + missing


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _beside_papers(comparison: Comparison) -> Iterable[tuple[Entry, Entry, list[Published]]]:
    """Our fine-tuning and P-Tuning v2, and what papers report of both on the same data by the same metric."""
    for data in comparison.data:
        row = comparison.row(data)
        full, prompt = row.get(comparison.baseline or ""), row.get(comparison.prompt or "")
        papers = published_on(data, comparison.metric(data), FULL, PROMPT)
        if full is not None and prompt is not None and papers and comparison.ratio(prompt) is not None:
            yield full, prompt, papers
