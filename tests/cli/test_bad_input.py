"""What is wrong is said in one message with its place, exit code 2, and nothing is half-written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import tiny_backbone_folder

GOOD_LINE = '{"text": "Where is it?", "label": "tracking"}\n'
CONTEXT = "Anna arrived on Monday."


def refuse_training(place, task: str, tmp_path: Path, *changes: str, says: tuple[str, ...]) -> None:
    words = [word for change in changes for word in ("--set", change)]
    place.refuse("train", place.recipe(task, tmp_path), *words, "--output", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()


# Recipes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("training.epoch=3", ("training.epoch: unknown key; did you mean 'epochs'?",)),
        ("trainin.epochs=3", ("trainin: unknown key; did you mean 'training'?",)),
        ("task.columns.txt=x", ("task.columns.txt: unknown key; did you mean 'text'?",)),
        ("training.epochs=many", ("training.epochs: ", "'many'")),
        ("training.epochs=0", ("training.epochs: ", "0")),
        ("training.schedule=cosin", ("training.schedule: ", "'cosine'")),
        ("training=3", ("section.key=value",)),
        ("training.epochs", ("--set training.epochs: expected section.key=value",)),
        ("method.type=ptuning", ("method.type: 'ptuning'", "Did you mean 'p-tuning'?")),
        ('method.type=["ptuning-v2"]', ("method.type: ",)),
        ("task.type=5", ("task.type: '5' is not one of",)),
        ("data.format=xml", ("data.format: 'xml' is not one of",)),
        ("data.train=3", ("data.train",)),
        ("backbone.name=3", ("backbone.name",)),
        ("backbone.dtype=float8", ("backbone.dtype",)),
        ("method.layers=2-9", ("method.layers: '2-9' does not fit", "0 to 2")),
        ("method.layers=[-1]", ("method.layers",)),
        ("method.layers=some", ("method.layers: 'some'",)),
        ("backbone.name=/no/such/folder", ("/no/such/folder",)),
    ],
)
def test_a_mistake_in_a_recipe(place, tmp_path, change, says):
    refuse_training(place, "classification", tmp_path, change, says=says)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("task.decoding.max_new_tokens=127", ("task.template: leaves no room to the text",)),
        ("backbone.language_model=false", ("backbone.language_model: ", "set it to true")),
        ("task.metrics=[]", ("task.metrics: expected one at least",)),
        ("data.format=webnlg", ("not valid XML",)),
    ],
)
def test_what_generation_cannot_do(place, tmp_path, change, says):
    refuse_training(place, "generation", tmp_path, change, says=says)


def test_a_mixture_of_prompts_cannot_write(place, tmp_path):
    recipe = place.recipe("generation", tmp_path)
    recipe.write_text(recipe.read_text().replace("prompt_length = 4", 'type = "mixture"\nof = { type = "ptuning-v2" }'))
    place.refuse("train", recipe, "--output", tmp_path / "out", says=("no prompt to generate with",))
    assert not (tmp_path / "out").exists()


def test_several_mistakes_are_told_together(place, tmp_path):
    changes = ("training.epoch=3", "method.dropout=2", "data.formt=csv", "task.pooling=sum")
    says = ("classification.toml: 4 mistakes", "training.epoch:", "method.dropout:", "data.formt:", "task.pooling:")
    refuse_training(place, "classification", tmp_path, *changes, says=says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[task\n", ("not valid TOML", "line 1")),
        (b"# \xff\n", ("not UTF-8",)),
        (b"", ("task.type: is missing", "data.train: is missing", "data.dev: is missing")),
        (b"task = 3\n", ("task: expected a table",)),
        (b"base = [1]\n", ("base: ",)),
        (b"name = 3\n", ("name: expected a text",)),
    ],
)
def test_a_recipe_that_is_none(place, tmp_path, content, says):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    place.refuse("train", path, "--output", tmp_path / "out", says=(str(path), *says))
    assert not (tmp_path / "out").exists()


def test_no_recipe(place, tmp_path):
    place.refuse("train", tmp_path / "no.toml", says=("no.toml: no such file",))
    place.refuse("train", "no-such-recipe", says=("no-such-recipe: no such file, nor a packaged recipe",))


# Data


def squad(*qas: dict) -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": list(qas)}]}]})


def question(text: str, start: int) -> dict:
    return {"id": "q", "question": "When?", "answers": [{"text": text, "answer_start": start}]}


@pytest.mark.parametrize(
    ("task", "name", "content", "line", "says"),
    [
        ("classification", "a.jsonl", "", None, ("no records",)),
        ("classification", "a.jsonl", GOOD_LINE + GOOD_LINE[:20], 2, ("ends too early",)),
        ("classification", "a.jsonl", GOOD_LINE.encode() + b'{"text": "caf\xe9"}\n', 2, ("not UTF-8",)),
        ("classification", "a.jsonl", GOOD_LINE + "[1]\n", 2, ("expected a JSON object",)),
        ("classification", "a.jsonl", GOOD_LINE + '{"text": "x"}\n', 2, ("field 'label'", "missing")),
        ("classification", "a.jsonl", GOOD_LINE + '{"text": 5, "label": "x"}\n', 2, ("field 'text'", "5")),
        ("classification", "a.jsonl", GOOD_LINE + '{"text": " ", "label": "x"}\n', 2, ("field 'text'", "empty")),
        ("classification", "a.jsonl", GOOD_LINE + '{"text": "x", "label": null}\n', 2, ("field 'label'", "None")),
        ("classification", "a.csv", "text,label\nHello\n", 2, ("found 1 columns",)),
        ("classification", "a.xyz", "text", None, ("cannot tell the format",)),
        ("ner", "a.conll", "Anna B-PERSON\narrived\n", 2, ("found 1 columns, expected 2",)),
        ("ner", "a.conll", "Anna B-PERSON\nin O\nBonn I-PLACE\nMay E-PLACE\n", None, ("field 'tags'",)),
        ("ner", "a.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}\n', 1, ("field 'tags'", "2 tags")),
        ("ner", "a.jsonl", '{"tokens": "a b", "tags": ["O"]}\n', 1, ("field 'tokens'",)),
        ("srl", "a.props", "a\tX\tb\tb.01\t(V*\n", 1, ("field 'column 5'", "(V is not closed")),
        ("srl", "a.props", "a X b b.01 (V*)\n", 1, ("found 1 columns", "separator")),
        ("srl", "a.jsonl", '{"tokens": ["a"], "predicate": 1, "tags": ["O"]}\n', 1, ("field 'predicate'", "0 to 0")),
        ("qa", "a.json", squad()[:-4], 1, ("not valid JSON",)),
        ("qa", "a.json", "{}", None, ("field 'data'",)),
        ("qa", "a.json", squad(question("Monday", 16), question("Monday", 3)), 2, ("field 'answers'", "'Monday'")),
        ("qa", "a.json", squad(question("Friday", 16)), 1, ("field 'answers'", "'Friday'")),
    ],
)
@pytest.mark.parametrize("side", ["train", "dev"])
def test_a_mistake_in_data(place, tmp_path, task, name, content, line, says, side):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    place_told = f"{path}:{line}: " if line else str(path)
    refuse_training(place, task, tmp_path, f"data.{side}={path}", says=(place_told, *says))


def test_tags_that_their_scheme_forbids(place, tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Anna B-PERSON\nleft O\n\nBonn I-PLACE\n")
    changes = (f"data.train={path}", "task.scheme=IOB2")
    refuse_training(place, "ner", tmp_path, *changes, says=(f"{path}:4: field 'tags'", "I-PLACE", "invalid_tags"))


def test_labels_that_training_never_saw(place, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(GOOD_LINE + '{"text": "Hello", "label": "greeting"}\n')
    says = (f"{path}:2: field 'label'", "'greeting' does not occur in the training data", "Known labels: ")
    refuse_training(place, "classification", tmp_path, f"data.dev={path}", says=says)
    path = tmp_path / "dev.conll"
    path.write_text("Anna B-PERSON\n\nRex B-DOG\n")
    refuse_training(place, "ner", tmp_path, f"data.dev={path}", says=(f"{path}:3: ", "'DOG'"))


@pytest.mark.parametrize("side", ["train", "dev"])
def test_data_that_is_not_there(place, tmp_path, side):
    path = tmp_path / "none.jsonl"
    refuse_training(place, "classification", tmp_path, f"data.{side}={path}", says=(f"{path}: no such file",))
    refuse_training(place, "classification", tmp_path, f"data.{side}={tmp_path}", says=(f"{tmp_path}: is a folder",))


def test_an_unset_variable(place, tmp_path):
    says = ("data.train: the environment variable NO_SUCH_PLACE is not set",)
    refuse_training(place, "classification", tmp_path, "data.train=$NO_SUCH_PLACE/x.jsonl", says=says)


def test_examples_that_are_too_long_are_counted_aloud(place, tmp_path):
    path = tmp_path / "long.jsonl"
    long = json.dumps({"text": "word " * 300, "label": "refund"})
    path.write_text(place.data("classification", "train").read_text() + f"{long}\n{long}\n")
    recipe = place.recipe("classification", tmp_path)
    result = place.run("train", recipe, "--set", f"data.train={path}", "--output", tmp_path / "out")
    assert result.code == 0
    assert "warning: train: 2 of 26 examples truncated" in result.err
    assert "2 examples truncated" in place.run("inspect", tmp_path / "out").out


def test_a_model_that_always_says_the_same_is_called_out(place, tmp_path):
    path = tmp_path / "one-sided.jsonl"
    path.write_text(GOOD_LINE * 20 + '{"text": "Hello", "label": "greeting"}\n')
    changes = (f"data.train={path}", f"data.dev={path}", "training.head_learning_rate=0.05", "training.epochs=3")
    words = [word for change in changes for word in ("--set", change)]
    result = place.run("train", place.recipe("classification", tmp_path), *words, "--output", tmp_path / "out")
    assert result.code == 0
    assert "warning: the model gives the same answer ('tracking') to all 21 dev examples" in result.err


# Input of predict


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b'{"text": "a"}\n{"text": \n', 2, ("ends too early",)),
        (b'{"text": "a"}\n\n{"txt": "b"}\n', 3, ("field 'text'", "missing")),
        (b'{"text": "a"}\n{"text": "caf\xe9"}\n', 2, ("not UTF-8",)),
        (b'{"text": "a"}\n"b"\n', 2, ("expected a JSON object",)),
        (b'{"text": "a"}\n' * 400 + b'{"text": null}\n', 401, ("field 'text'",)),
    ],
)
def test_a_bad_line_to_predict(place, trained, tmp_path, content, line, says):
    artifact = trained["classification"][0]
    place.refuse("predict", artifact, stdin=content, says=(f"<stdin>:{line}: ", *says))
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    place.refuse("predict", artifact, "--input", source, "--output", target, says=(f"{source}:{line}: ", *says))
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_places_that_predict_cannot_use(place, trained, tmp_path):
    artifact = trained["classification"][0]
    place.refuse("predict", artifact, "--input", tmp_path / "no", says=("no: no such file",))
    place.refuse("predict", artifact, "--output", tmp_path, says=("is a folder, expected a file",))
    place.refuse("predict", artifact, "--output", tmp_path / "no" / "x", says=("cannot be written",))


# Artifacts


@pytest.fixture
def artifact(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained["classification"][0] / "artifact", tmp_path / "artifact"))


def refuse_artifact(place, artifact: Path, *says: str) -> None:
    data = place.data("classification", "dev")
    place.refuse("evaluate", artifact, "--data", data, says=says)
    place.refuse("predict", artifact, stdin=b'{"text": "a"}\n', says=says)
    place.refuse("inspect", artifact, says=says)


def test_an_artifact_for_another_backbone(place, artifact, tmp_path):
    data = place.data("classification", "dev")
    other = tiny_backbone_folder("bert", tmp_path / "other", intermediate_size=32)
    says = (f"{artifact}: made for backbone '{place.backbone}'", f"'{other}' differs in weights")
    place.refuse("evaluate", artifact, "--data", data, "--backbone", other, says=says)
    place.refuse("predict", artifact, "--backbone", other, says=says)
    family = tiny_backbone_folder("electra", tmp_path / "electra")
    place.refuse("predict", artifact, "--backbone", family, says=("differs in family",))
    place.refuse("predict", artifact, "--backbone", tmp_path, says=("not a backbone that transformers can load",))
    moved = Path(shutil.copytree(place.backbone, tmp_path / "moved"))
    assert place.run("evaluate", artifact, "--data", data, "--backbone", moved).code == 0


def test_a_tampered_artifact(place, artifact):
    served = artifact / "prompt.safetensors"
    content = bytearray(served.read_bytes())
    content[-1] ^= 1
    served.write_bytes(content)
    refuse_artifact(place, artifact, f"{served}: its sha256 is not the one in its manifest")


def test_a_truncated_artifact(place, artifact):
    served = artifact / "prompt.safetensors"
    served.write_bytes(served.read_bytes()[:-10])
    refuse_artifact(place, artifact, f"{served}: has ", "truncated")
    served.unlink()
    refuse_artifact(place, artifact, f"{served}: is missing")


def rewrite(artifact: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Put other numbers into an artifact, and make its manifest agree."""
    served, manifest = artifact / "prompt.safetensors", artifact / "artifact.json"
    save_file(tensors, served)
    raw = json.loads(manifest.read_text())
    content = served.read_bytes()
    raw["files"][served.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest.write_text(json.dumps(raw))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_artifact_with_numbers_that_are_none(place, artifact, value):
    tensors = load_file(artifact / "prompt.safetensors")
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] = value
    rewrite(artifact, tensors)
    refuse_artifact(place, artifact, f"'{name}' holds values that are not finite")


def test_an_artifact_of_another_shape(place, artifact):
    tensors = load_file(artifact / "prompt.safetensors")
    names = [name for name in tensors if name.startswith("prefix/")]
    wider = {name: torch.cat([t, t], dim=-1) if name in names else t for name, t in tensors.items()}
    rewrite(artifact, wider)
    place.refuse("predict", artifact, says=("its prompt: 'prefix/encoder.0/", "the backbone wants"))
    rewrite(artifact, {name.replace("encoder.2", "encoder.9"): t for name, t in tensors.items()})
    place.refuse("predict", artifact, says=("its prompt: 'prefix/encoder.9/",))
    rewrite(artifact, {name: t for name, t in tensors.items() if not name.startswith("head/")})
    place.refuse("predict", artifact, says=("holds a prompt without a head",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"extra": 1}, "extra: "),
        ({"task": {"type": "poetry", "settings": {}}}, "task.type 'poetry' is not one of"),
        ({"method": {"type": "ptuning-v2", "settings": {"dropout": 3}}}, "method.settings.dropout"),
    ],
)
def test_a_manifest_with_a_mistake(place, artifact, change, says):
    path = artifact / "artifact.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refuse_artifact(place, artifact, str(path), says)


def test_a_recipe_inside_an_artifact_with_a_mistake(place, artifact):
    path = artifact / "artifact.json"
    raw = json.loads(path.read_text())
    raw["recipe"]["data"]["token_column"] = "first"
    path.write_text(json.dumps(raw))
    data = place.data("classification", "dev")
    place.refuse("evaluate", artifact, "--data", data, says=(f"{artifact}: recipe.data.token_column: ",))


def test_no_artifact(place, tmp_path):
    refuse_artifact(place, tmp_path / "none", "no such folder")
    refuse_artifact(place, tmp_path, "not an artifact")
    (tmp_path / "artifact.json").write_text("{")
    refuse_artifact(place, tmp_path, "artifact.json: cannot be read")


# Folders and words


def test_an_output_folder_that_is_not_ours(place, trained, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    recipe = place.recipe("classification")
    place.refuse("train", recipe, "--output", tmp_path, says=(f"{tmp_path}: exists and is not a folder of ours",))
    place.refuse("train", recipe, "--output", tmp_path / "letter.txt", says=("letter.txt: exists and is not",))
    place.refuse("train", recipe, "--output", tmp_path / "letter.txt" / "x", says=("cannot be written",))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("letter.txt", "dear")]
    place.refuse("train", recipe, "--output", trained["ner"][0], says=("holds a finished run already",))


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "x.toml", "--epochs", "3"),
        ("train",),
        ("trian", "x.toml"),
        ("predict", "x", "--batch-size", "0"),
        ("predict", "x", "--batch-size", "many"),
        ("evaluate", "x"),
    ],
)
def test_wrong_usage(place, arguments):
    result = place.run(*arguments)
    assert result.code == 2
    assert "Usage: foreword" in result.err
    assert "Traceback" not in result.err


def test_wrong_choices(place, trained):
    artifact, data = trained["classification"][0], place.data("classification", "dev")
    place.refuse("evaluate", artifact, "--data", data, "--format", "xml", says=(f"{data}: unknown format 'xml'",))
    place.refuse("evaluate", artifact, "--data", place.data("ner", "dev"), says=("field 'label'", "missing"))
