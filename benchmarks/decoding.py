"""What each way from probabilities to tags makes of the same weights (task.decoding), on labelled data.

    foreword train conll04-ptuning-v2 --output runs/names
    python benchmarks/decoding.py runs/names --data ../shared/data/conll04/dev.txt

Artifacts are of named entities or semantic roles. One that was trained with another decoding has its transitions
counted here, in `--train`, of which the first `--most` examples are read.
"""

from __future__ import annotations

import argparse

from foreword.cli.evaluate import data_source
from foreword.inference.encoding import encode_examples
from foreword.inference.forward import row_logits
from foreword.inference.predictor import load
from foreword.tasks.making.tagging import Tagging

WEIGHTS = (0.25, 0.4, 0.5, 0.6, 0.75, 1.0)


def scored(path: str, data: str, train: str | None, most: int) -> list[str]:
    """F1 of one artifact: greedy, constrained, then by the weight of transitions."""
    predictor = load(path)
    task = predictor.task
    assert isinstance(task, Tagging), f"{path}: '{task.name}' gives words no tags"
    if train is not None:
        counted = task.model_copy(update={"decoding": "transitions", "transitions": None})
        source = data_source(predictor.artifact, [train], None, None)
        task = counted.with_labels_from(task.read(list(source.records())[:most], labelled=True))
    examples = task.read(data_source(predictor.artifact, [data], None, None).records(), labelled=True)
    encoded = encode_examples(task, examples, predictor.backbone, predictor.artifact.manifest.max_length)
    logits = row_logits(predictor.model, encoded.rows)

    def f1(**settings: object) -> str:
        other = task.model_copy(update=settings)
        rows = [([encoded.rows[i] for i in own], [logits[i] for i in own]) for own in encoded.rows_of]
        predictions = [other.decode(example, *one) for example, one in zip(examples, rows, strict=True)]
        return f"{100 * other.score(examples, predictions).main_value:.1f}"

    ways = [f1(decoding="greedy"), f1(decoding="constrained")]
    return ways + [f1(decoding="transitions", transition_weight=weight) for weight in WEIGHTS]


def main() -> None:
    """Print a table of F1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="+")
    parser.add_argument("--data", required=True, help="labelled file to score on")
    parser.add_argument("--train", help="labelled file to count transitions in")
    parser.add_argument("--most", type=int, default=1_000_000, help="examples of it")
    options = parser.parse_args()
    print("| artifact | greedy | constrained | " + " | ".join(map(str, WEIGHTS)) + " |")
    print("|---" * (3 + len(WEIGHTS)) + "|")
    for path in options.artifacts:
        print(f"| {path} | {' | '.join(scored(path, options.data, options.train, options.most))} |", flush=True)


if __name__ == "__main__":
    main()
