"""Tasks. `TASKS` is the one table; nothing registers itself."""

from typing import Any

from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.classification import Classification
from foreword.tasks.ner import NER
from foreword.tasks.probing import Probing
from foreword.tasks.qa import QA

TASKS: dict[str, type[Task[Any, Any]]] = {task.name: task for task in (Classification, NER, QA, Probing)}

__all__ = ["NER", "QA", "TASKS", "Classification", "Columns", "Encoding", "Probing", "Task"]
