"""Runs of one process and of several, which are started as a launcher starts them: by variables of the environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from foreword.methods import BitFit, FineTuning, LoRA, PTuningV2
from foreword.model import PromptedModel
from foreword.training.lanes import Lane
from foreword.training.loop import Interrupted, Trainer
from foreword.training.processes import Processes, launched
from foreword.training.settings import TrainingSettings
from tiny import tiny_backbone
from tiny_runs import TASKS, Recorder, TinyTrainer, interrupt_at, tiny_data, tiny_trainer
from tiny_writers import SHORT, encoded

HERE = Path(__file__).parent
DIRECT = PTuningV2(prompt_length=4, dropout=0)
TOP = PTuningV2(prompt_length=4, layers="top-1", dropout=0)

RUNS: dict[str, dict[str, Any]] = {
    "prompt": {},
    "accumulated": {"accumulation_steps": 3, "task": "ner"},
    "together": {"task": "multiple-choice", "batch_size": 3},
    "windows": {"task": "qa", "evaluate_every_steps": 2, "early_stopping_patience": 3},
    "clipped": {"max_grad_norm": 0.05, "task": "srl"},
    "attached": {"method": LoRA(r=2), "weight_decay": 0.1},
    "fine-tuned": {"method": FineTuning(), "learning_rate": 1e-3},
    "biases": {"method": BitFit(), "learning_rate": 1e-3},
    "cached": {"method": TOP, "trunk_cache": "memory"},
    "bf16": {"precision": "bf16"},
    "few": {"rows": 2, "batch_size": 1},
    "tokens": {"batch_tokens": 40},
    "pieces": {"batch_size": 6, "tokens_at_once": 12, "task": "ner"},
}
"""Name -> arguments of `tiny_trainer`. Nothing is dropped, so that one process has nothing to draw."""

SHARED_OUT: dict[str, dict[str, Any]] = {
    name: {"epochs": 1, "rows": 5, **arguments}
    for name, arguments in {
        "bert": {"epochs": 2},
        "deberta-v2": {"family": "deberta-v2"},
        "deberta": {"family": "deberta"},
        "mpnet": {"family": "mpnet"},
        "albert": {"family": "albert", "method": LoRA(r=2)},
        "gpt2": {"family": "gpt2", "gradient_checkpointing": True},
        "t5": {"family": "t5", "task": "ner", "precision": "bf16"},
        "top": {"method": TOP},
    }.items()
}
"""The same, of runs whose layers are shared out."""

DROPPING: dict[str, Any] = {"backbone_dropout": 0.2, "epochs": 3}


def trainer_of(processes: Processes | None = None, **arguments: Any) -> TinyTrainer:
    """A trainer of one of the runs above. Of 13 rows the last batch has one, and a process none."""
    return tiny_trainer(**{"method": DIRECT, "epochs": 2, "rows": 13, **arguments}, processes=processes)


def writer_trainer(processes: Processes | None = None) -> TinyTrainer:
    """A trainer of a task whose answers are written."""
    backbone, settings = tiny_backbone("gpt2", language_model=True), TrainingSettings(epochs=2, batch_size=4)
    torch.manual_seed(settings.seed)
    model = PromptedModel(backbone, DIRECT, SHORT.build_head(backbone.hidden_size, backbone))
    data = encoded(SHORT, backbone)
    return TinyTrainer([Lane("w", model, SHORT, data, data)], settings, tracker=Recorder(), processes=processes)


def found_together(processes: Processes | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a run of two tasks comes to. Decay would move the head of the one that has not its turn."""
    backbone, models = tiny_backbone(), list[PromptedModel]()
    settings = TrainingSettings(epochs=2, batch_size=4, learning_rate=1e-2, weight_decay=0.1)
    torch.manual_seed(settings.seed)
    for name in ("classification", "ner"):
        head = TASKS[name].build_head(backbone.hidden_size, backbone)
        models.append(models[0].sibling(head) if models else PromptedModel(backbone, DIRECT, head))
    data = [
        (TASKS[name], *(tiny_data(TASKS[name], backbone, size) for size in (9, 3)))
        for name in ("classification", "ner")
    ]
    lanes = [Lane(task.name, model, task, *sides) for model, (task, *sides) in zip(models, data, strict=True)]
    trainer = Trainer(lanes, settings, tracker=Recorder(), processes=processes)
    scores = {name: outcome.scores.values for name, outcome in trainer.fit().items()}
    return trainer.models.state(), {"steps": trainer.progress.step, "tokens": trainer.progress.tokens, **scores}


def found(trainer: TinyTrainer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a run comes to: all that is trained, and what it says of itself but for times."""
    outcome = trainer.fit()
    entries = [{k: v for k, v in entry.items() if k != "seconds"} for entry in outcome.progress.evaluations]
    said = {
        "steps": outcome.progress.step,
        "best": outcome.progress.best_step,
        "tokens": outcome.progress.tokens,
        "evaluations": entries,
        "predictions": len(outcome.predictions),
        "scores": outcome.scores.values,
    }
    return trainer.models.state(), said


def start(count: int, work: str, folder: Path, **environment: str) -> list[subprocess.Popen[bytes]]:
    """Start processes that do some ``work`` of this file together and leave what they find in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder.mkdir(exist_ok=True)
    common = {
        **os.environ,
        "PYTHONPATH": f"{HERE}:{HERE.parent / 'src'}",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(count),
        **environment,
    }
    return [
        subprocess.Popen(
            [sys.executable, __file__, work, str(folder)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen[bytes]], codes: tuple[int, ...]) -> list[str]:
    """Wait for processes, see that they end as they should, and give what they said on stderr."""
    said = [process.communicate(timeout=240)[1].decode() for process in processes]
    assert tuple(process.returncode for process in processes) == codes, "\n".join(said)
    return said


def _keep(folder: Path, name: str, processes: Processes, result: tuple[Mapping[str, Any], dict[str, Any]]) -> None:
    state, said = result
    place = folder / f"{name}.{processes.rank}"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, place.with_suffix(f"{place.suffix}.st"))
    place.with_suffix(f"{place.suffix}.json").write_text(json.dumps(said))


def _data_parallel(folder: Path, processes: Processes) -> None:
    _gradients(processes)
    _keep(folder, "several tasks", processes, found_together(processes))
    for name, arguments in RUNS.items():
        _keep(folder, name, processes, found(trainer_of(processes, **arguments)))
    for name in ("dropping", "dropping again"):
        _keep(folder, name, processes, found(trainer_of(processes, **DROPPING)))
    resumed = trainer_of(processes, epochs=3, checkpoint=folder.parent / "one.safetensors")
    resumed.resume()
    _keep(folder, "resumed", processes, found(resumed))

    def interrupt(kind: str, step: int) -> None:
        if kind == "step" and step == 5:
            os.kill(int((folder / "pid").read_text()), signal.SIGINT)

    (folder / "pid").write_text(str(os.getpid())) if processes.rank == 1 else None
    processes.agreed(lambda: None)
    stopped = trainer_of(
        processes, **DROPPING, tracker=Recorder(interrupt if processes.main else None), checkpoint=folder / "several"
    )
    try:
        stopped.fit()
    except Interrupted as error:
        (folder / f"stopped.{processes.rank}").write_text(str(error.step))
    again = trainer_of(processes, **DROPPING, checkpoint=folder / "several")
    again.resume()
    _keep(folder, "dropping resumed", processes, found(again))
    _errors(folder, processes)
    trainer_of(processes, tracker=interrupt_at(3, number=signal.SIGKILL) if processes.main else None).fit()


def _gradients(processes: Processes) -> None:
    """What stands in parameters after gradients were added up, in one piece and in several."""
    mine, theirs, nobodys = (torch.nn.Parameter(torch.zeros(3, 2)) for _ in range(3))
    for bucket in (100, 5):
        with patch("foreword.training.processes._BUCKET", bucket):
            mine.grad = torch.full((3, 2), 1.0 + processes.rank)
            theirs.grad = torch.arange(6.0).view(3, 2) if processes.rank else None
            assert processes.add_up([mine, nobodys, theirs], 0.5 + processes.rank) == 2
        assert mine.grad.tolist() == [[3.0] * 2] * 3
        assert theirs.grad.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert nobodys.grad is None
    assert processes.gathered("ace" if processes.main else "bd") == list("abcde")
    assert (processes.total(processes.rank), processes.most(processes.rank)) == (1, 1)


def _errors(folder: Path, processes: Processes) -> None:
    """What each process is told when one of them cannot go on."""

    def fail_in(rank: int) -> Callable[[], str]:
        def work() -> str:
            if processes.rank == rank:
                raise ValueError(f"broken in {rank}")
            return "done"

        return work

    attempts: dict[str, Callable[[], Any]] = {
        "led": lambda: processes.led(fail_in(0)),
        "agreed 0": lambda: processes.agreed(fail_in(0)),
        "agreed 1": lambda: processes.agreed(fail_in(1)),
        "same": lambda: processes.check_same("one"),
        "different": lambda: processes.check_same(str(processes.rank)),
        "fine": lambda: [processes.led(lambda: processes.rank), processes.agreed(lambda: processes.rank)],
        "diverged": lambda: trainer_of(processes, learning_rate=1e30, max_grad_norm=0).fit(),
    }
    told = {}
    for name, attempt in attempts.items():
        try:
            told[name] = repr(attempt())
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    (folder / f"errors.{processes.rank}").write_text(json.dumps(told))


def _shared_out(folder: Path, processes: Processes) -> None:
    assert processes.sharding
    for name, arguments in SHARED_OUT.items():
        trainer = trainer_of(processes, **arguments)
        own = sum(weight.to_local().numel() for weight in trainer.models.backbone.model.parameters() if _parted(weight))
        whole = sum(weight.numel() for weight in trainer.models.backbone.model.parameters() if _parted(weight))
        state, said = found(trainer)
        identity = trainer.models.backbone.identity.weights
        _keep(folder, name, processes, (state, said | {"identity": identity, "own": own, "whole": whole}))
    _keep(folder, "written", processes, found(writer_trainer(processes)))


def _parted(weight: Any) -> bool:
    return hasattr(weight, "to_local")


if __name__ == "__main__":
    torch.set_num_threads(1)
    families = {arguments.get("family", "bert") for arguments in SHARED_OUT.values()}
    for family in sorted(families):
        tiny_backbone(family)  # transformers lets the main process alone write models, as soon as there are several
    tiny_backbone("gpt2", language_model=True)
    {"data-parallel": _data_parallel, "shared-out": _shared_out}[sys.argv[1]](Path(sys.argv[2]), launched())
