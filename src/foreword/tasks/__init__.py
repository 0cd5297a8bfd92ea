"""Tasks. `TASKS` is the one table; nothing registers itself."""

from typing import Any

from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.classification import Classification
from foreword.tasks.generation import Generation
from foreword.tasks.making.writing import WritingTask, Written
from foreword.tasks.multi_label import MultiLabel
from foreword.tasks.multiple_choice import MultipleChoice
from foreword.tasks.multirc import MultiRC
from foreword.tasks.ner import NER
from foreword.tasks.probing import Probing
from foreword.tasks.qa import QA
from foreword.tasks.record import ReCoRD
from foreword.tasks.regression import Regression
from foreword.tasks.span_classification import SpanClassification
from foreword.tasks.srl import SRL
from foreword.tasks.text_to_text import TextToText

TASKS: dict[str, type[Task[Any, Any]]] = {
    task.name: task
    for task in (
        Classification,
        SpanClassification,
        Regression,
        MultiLabel,
        MultipleChoice,
        MultiRC,
        ReCoRD,
        NER,
        SRL,
        QA,
        Probing,
        Generation,
        TextToText,
    )
}

__all__ = [
    "NER",
    "QA",
    "SRL",
    "TASKS",
    "Classification",
    "Columns",
    "Encoding",
    "Generation",
    "MultiLabel",
    "MultiRC",
    "MultipleChoice",
    "Probing",
    "ReCoRD",
    "Regression",
    "SpanClassification",
    "Task",
    "TextToText",
    "WritingTask",
    "Written",
]
