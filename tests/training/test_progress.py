"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from foreword.training.progress import LineTracker, LiveTracker, progress_tracker

EVENTS = [
    ("start", 0, {"steps": 4, "rows": 30, "resumed_at": 0}),
    ("step", 1, {"loss": 0.75, "rate": 0.1, "tokens_per_second": 1234.5, "epoch": 0}),
    ("step", 2, {"loss": 0.5, "rate": 0.1, "tokens_per_second": 1234.5, "epoch": 0}),
    ("evaluation", 2, {"epoch": 1, "train_loss": 0.6, "f1": 0.8125, "main": "f1", "best": True, "seconds": 1.0}),
    ("evaluation", 4, {"epoch": 2, "train_loss": 0.4, "f1": 0.75, "main": "f1", "best": False, "seconds": 2.0}),
    ("end", 4, {"f1": 0.8125, "best_step": 2, "seconds": 2.0}),
]


def told(tracker_class: type, events: list, *, terminal: bool) -> str:
    out = io.StringIO()
    tracker = tracker_class(Console(file=out, force_terminal=terminal, width=120, highlight=False, markup=False))
    for kind, step, values in events:
        tracker.event(kind, step, values)
    tracker.close()
    return out.getvalue()


def test_plain_lines():
    assert told(LineTracker, EVENTS, terminal=False).splitlines() == [
        "training: 4 steps over 30 rows",
        "step 2/4  epoch 1  loss 0.6000  f1 0.8125  best so far",
        "step 4/4  epoch 2  loss 0.4000  f1 0.7500",
        "done after 4 steps, 2.0 s; best at step 2",
    ]


def test_lines_of_several_runs_at_once_all_have_their_title(capsys):
    tracker = progress_tracker("seed 3", beside=True)
    for event in EVENTS:
        tracker.event(*event)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("seed 3: ") for line in lines)


def test_plain_lines_of_a_resumed_run():
    start = ("start", 3, {"steps": 4, "rows": 30, "resumed_at": 3})
    assert told(LineTracker, [start], terminal=False) == "training: 4 steps over 30 rows, going on from step 3\n"


def test_a_title():
    for terminal in (True, False):
        out = io.StringIO()
        tracker_class = LiveTracker if terminal else LineTracker
        tracker = tracker_class(Console(file=out, force_terminal=terminal, width=120), "tickets [a]")
        for kind, step, values in EVENTS[:2]:
            tracker.event(kind, step, values)
        tracker.close()
        assert "tickets [a]" in out.getvalue()


def test_a_live_bar():
    text = told(LiveTracker, EVENTS, terminal=True)
    for part in ("2/4", "loss 0.500", "best f1 0.8125", "1,234 tokens/s", "epoch 2  loss 0.4000  f1 0.7500"):
        assert part in text


def test_a_live_bar_that_never_starts_leaves_nothing_behind():
    assert told(LiveTracker, [], terminal=True).strip() in ("", "\x1b[?25h")


@pytest.mark.parametrize(("terminal", "wanted"), [("1", LiveTracker), ("0", LineTracker)])
def test_where_stderr_goes_decides(monkeypatch, terminal, wanted):
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    assert isinstance(progress_tracker(), wanted)
