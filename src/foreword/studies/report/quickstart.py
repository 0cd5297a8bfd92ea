"""The quickstart: three tasks, three methods, one frozen model, one mixed batch, one report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foreword.artifacts.format import load_artifact
from foreword.backbones import Backbone, load_backbone
from foreword.data.sources import Source
from foreword.data.synthetic import ExamplePaths, Sizes, write_example_data
from foreword.inference.engine import Engine
from foreword.methods import FineTuning, HeadOnly, Method, PTuningV2
from foreword.studies.report.report import Mark, Shown, write_report
from foreword.studies.report.results import CurvePoint, Run
from foreword.tasks import NER, QA, Classification, Task
from foreword.training.prepared import prepare
from foreword.training.run import TrainedRun, train_prepared
from foreword.training.settings import TrainingSettings
from foreword.training.tracking import Tracker

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
SIZES = Sizes(notices_train=300, notices_dev=100)
PROMPT = PTuningV2(prompt_length=20, init_scale=0.5)


@dataclass(frozen=True)
class Demo:
    """One task of the quickstart.

    Attributes:
        title: for people.
        data: what it is trained on, for people.
        task: as a user would configure it.
        epochs: per method, in the order prompt, fine-tuning, head.
    """

    title: str
    data: str
    task: Task[Any, Any]
    epochs: tuple[int, int, int]

    def files(self, paths: ExamplePaths) -> tuple[Source, Source]:
        """Training and dev data of this task among the example files."""
        stem = self.data.split()[0]
        return Source.of(getattr(paths, f"{stem}_train")), Source.of(getattr(paths, f"{stem}_dev"))


DEMOS = {
    "tickets": Demo("classification", "tickets to a shop", Classification(), (4, 2, 3)),
    "diary": Demo("named entities", "diary sentences", NER(), (9, 3, 4)),
    "notices": Demo("question answering", "notices and questions", QA(), (7, 3, 2)),
}


def _methods(epochs: tuple[int, int, int]) -> list[tuple[Method, TrainingSettings]]:
    prompt, full, head = epochs
    return [
        (PROMPT, TrainingSettings(epochs=prompt, learning_rate=3e-2, head_learning_rate=5e-3)),
        (FineTuning(), TrainingSettings(epochs=full, learning_rate=1e-4)),
        (HeadOnly(), TrainingSettings(epochs=head, head_learning_rate=5e-3)),
    ]


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart made.

    Attributes:
        runs: every method on every task.
        answers: of the mixed batch, in order.
        report: the HTML page.
        artifacts: task -> folder of its prompt.
    """

    runs: Sequence[Run]
    answers: Sequence[Mapping[str, Any]]
    report: Path
    artifacts: Mapping[str, Path]


def run_quickstart(folder: Path, tracker: Callable[[str], Tracker]) -> Quickstart:
    """Write example data, train everything, answer a mixed batch, write the report.

    Args:
        folder: made if missing; its artifacts and report are replaced.
        tracker: makes a tracker for the run of the given title.

    Raises:
        BackboneError: the model is neither on the hub nor installed.
        OutputError: the folder cannot be written.
    """
    backbone = load_backbone(BACKBONE)
    paths = write_example_data(folder / "data", sizes=SIZES)
    artifacts = {name: folder / "artifacts" / name for name in DEMOS}
    runs: list[Run] = []
    padding = {}
    for name, demo in DEMOS.items():
        for method, settings in _methods(demo.epochs):
            # Fine-tuning changes the weights, so it gets a copy of its own.
            own = load_backbone(BACKBONE) if method.tunes_backbone else backbone
            prepared = prepare(demo.task, *demo.files(paths), own, settings)
            listener = tracker(f"{demo.title}, {method.name}")
            try:
                trained = train_prepared(own, method, prepared, settings, tracker=listener)
            finally:
                listener.close()
            place = artifacts[name] if method is PROMPT else folder / "baselines" / f"{name}-{method.name}"
            trained.save(place, replace=True)
            runs.append(_summary(demo, method, trained, place))
            padding[name] = trained.outcome.padding
    loaded = {name: load_artifact(path) for name, path in artifacts.items()}
    mixed = Engine(backbone, loaded)
    asked = _questions(paths)
    answers = mixed.predict([(name, item) for name, item, _ in asked])
    report = folder / "report.html"
    write_report(
        report,
        title="One frozen model, three forewords",
        intro=(
            "Three tasks, each learned in three ways on the same small encoder: with prompts in front of every "
            "layer, by fine-tuning all weights, and with nothing but a head. The prompts leave the model as it was, "
            "so the examples below were answered in one forward pass, every row with the prompt of its own task."
        ),
        runs=runs,
        shown=[_shown(name, item, gold, answer) for (name, item, gold), answer in zip(asked, answers, strict=True)],
        facts=_facts(backbone, padding),
    )
    return Quickstart(runs, answers, report, artifacts)


def _summary(demo: Demo, method: Method, run: TrainedRun, place: Path) -> Run:
    manifest = load_artifact(place).manifest
    scores = run.outcome.scores
    curve = tuple(
        CurvePoint(e["step"], e["seconds"], e["train_loss"], e[scores.main]) for e in run.outcome.progress.evaluations
    )
    return Run(
        task=demo.title,
        data=demo.data,
        method=method.name,
        metric=scores.main,
        value=scores.main_value,
        trained_parameters=manifest.parameters.trained,
        backbone_parameters=manifest.parameters.backbone,
        file_bytes=sum(entry.bytes for name, entry in manifest.files.items() if name != "unfolded.safetensors"),
        seconds=run.outcome.progress.seconds,
        curve=curve,
    )


Asked = tuple[str, Mapping[str, Any], Any]
"""Task name, input without its label, and the expected answer."""


def _questions(paths: ExamplePaths, each: int = 4) -> list[Asked]:
    """Some dev examples of every task, taking turns, with what should come out."""
    tickets, diary, notices = (
        list(Source(files=(str(path),), limit=each).records())
        for path in (paths.tickets_dev, paths.diary_dev, paths.notices_dev)
    )
    asked: list[list[Asked]] = [
        [("tickets", {"text": record.text("text")}, record.text("label"))] for record in tickets
    ]
    for i, record in enumerate(diary):
        example = NER().read([record], labelled=True)[0]
        gold = {(e.type, " ".join(record.value("tokens")[e.start : e.end])) for e in example.entities or ()}
        asked[i].append(("diary", {"tokens": record.value("tokens")}, gold))
    for i, record in enumerate(notices):
        item = {"question": record.text("question"), "context": record.text("context")}
        asked[i].append(("notices", item, [answer["text"] for answer in record.value("answers")]))
    return [one for turn in asked for one in turn]


def _shown(name: str, item: Mapping[str, Any], gold: Any, answer: Mapping[str, Any]) -> Shown:
    """One answer of the mixed batch, ready for the report."""
    title = DEMOS[name].title
    match name:
        case "tickets":
            return Shown(title, item["text"], (), answer["label"], gold, answer["label"] == gold)
        case "diary":
            marks = tuple(Mark(e["start"], e["end"], e["type"]) for e in answer["entities"])
            found = {(e["type"], e["text"]) for e in answer["entities"]}
            expected = ", ".join(f"{text} {type_}" for type_, text in sorted(gold, key=lambda pair: pair[1])) or "none"
            return Shown(title, answer["text"], marks, "" if marks else "no entities", expected, found == gold)
        case _:
            given = answer["answer"]
            marks = () if given is None else (Mark(answer["start"], answer["end"], "answer"),)
            correct = given in gold if gold else given is None
            expected = gold[0] if gold else "no answer"
            return Shown(title, item["context"], marks, given or "no answer", expected, correct, item["question"])


def _facts(backbone: Backbone, padding: Mapping[str, float]) -> dict[str, str]:
    names = ("foreword", "torch", "transformers")
    return {
        "Backbone": f"{backbone.name}, {backbone.parameter_count:,} parameters, frozen",
        "Weights": f"sha256 {backbone.identity.weights[:16]}",
        "Seed": str(TrainingSettings().seed),
        "Padding in training": ", ".join(f"{name} {share:.1%}" for name, share in padding.items()),
        "Versions": ", ".join(f"{name} {version(name)}" for name in names) + f", Python {platform.python_version()}",
        "Data": "made by Foreword's own generator: " + json.dumps(list(DEMOS)).strip("[]").replace('"', ""),
    }
