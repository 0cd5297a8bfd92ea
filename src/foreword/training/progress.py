"""How a run looks while it goes on: a live bar on a terminal, a line per evaluation elsewhere.

All of it goes to stderr; stdout is for results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foreword.caching import in_words
from foreword.training.tracking import Tracker


def progress_tracker(title: str = "training", *, beside: bool = False) -> Tracker:
    """The tracker that suits where stderr goes.

    Args:
        title: what the run is called.
        beside: whether others are shown at the same time. Then it is lines, each with the title.
    """
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if beside or not console.is_terminal:
        return LineTracker(console, title, every_line=beside)
    return LiveTracker(console, title)


class LineTracker:
    """One plain line at the start, per evaluation, and at the end.

    Args:
        console: where to.
        title: what the run is called.
        every_line: whether every line says so.
    """

    def __init__(self, console: Console, title: str = "training", *, every_line: bool = False) -> None:
        self._title, self._every_line = title, every_line
        self._console = console
        self._steps = 0

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Print the event, unless it is a single step."""
        match kind:
            case "start":
                self._steps = values["steps"]
                resumed = f", going on from step {step}" if step else ""
                self._say(f"{self._steps} steps over {values['rows']} rows{resumed}", titled=True)
            case "evaluation":
                self._say(f"step {step}/{self._steps}  epoch {values['epoch']}  {evaluation_words(values)}")
            case "end":
                self._say(f"done after {step} steps, {values['seconds']:.1f} s; best at step {values['best_step']}")

    def close(self) -> None:
        """Nothing is kept open."""

    def _say(self, text: str, *, titled: bool = False) -> None:
        title = f"{self._title}: " if titled or self._every_line else ""
        self._console.print(f"{title}{text}", soft_wrap=True, markup=False)


class LiveTracker:
    """A bar with step, loss, best dev score, speed and remaining time; evaluations stay above it.

    Args:
        console: a terminal.
        title: what the run is called.
    """

    def __init__(self, console: Console, title: str = "training") -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[best]}"),
            TextColumn("{task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(title, loss=float("nan"), best="", speed=0.0)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Move the bar."""
        match kind:
            case "start":
                self._progress.update(self._task, total=values["steps"], completed=step)
                self._progress.start()
            case "step":
                fields = {"loss": values["loss"], "speed": values["tokens_per_second"]}
                self._progress.update(self._task, completed=step, **fields)
            case "evaluation":
                self._progress.console.print(f"step {step}  epoch {values['epoch']}  {evaluation_words(values)}")
                if values["best"]:
                    name = values["main"]
                    self._progress.update(self._task, best=f"best {name} {values[name]:.4f}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()


def evaluation_words(values: Mapping[str, Any]) -> str:
    """Loss and main score of one evaluation, and that of each task where there are several."""
    name = values["main"]
    best = "  best so far" if values["best"] else ""
    tasks = "".join(f"  {task} {value:.4f}" for task, value in values.get("tasks", {}).items())
    return f"loss {values['train_loss']:.4f}  {name} {values[name]:.4f}{tasks}{best}{trunk_words(values)}"


def trunk_words(values: Mapping[str, Any]) -> str:
    """What the trunk cache did so far, where there is one."""
    if "trunk_cache" not in values:
        return ""
    hits, misses, size = (values["trunk_cache"][name] for name in ("hits", "misses", "bytes"))
    return f"  trunk cache: {hits / max(hits + misses, 1):.0%} hits, {in_words(size)}"
