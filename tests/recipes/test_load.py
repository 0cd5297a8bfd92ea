"""From text to a checked recipe: every mistake is told, with its place and the word that was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

import foreword as fw
from foreword.errors import RecipeError
from foreword.methods import METHODS
from foreword.recipes import load_recipe, packaged_folders, packaged_in
from foreword.recipes.load import read_tables, written_override
from foreword.tasks import TASKS
from packaged_names import SEVERAL, SINGLE

MINIMAL = '[task]\ntype = "classification"\n[data]\ntrain = "a.jsonl"\ndev = "b.jsonl"\n'


@pytest.fixture
def write(tmp_path):
    def written(text: str | bytes, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value.mistakes


class TestWhatIsLeftOut:
    def test_the_least_a_recipe_can_say(self, write, tmp_path):
        recipe = load_recipe(write(MINIMAL))
        assert recipe.name == "mine"
        assert recipe.task == fw.Classification()
        assert recipe.method == fw.PTuningV2()
        assert recipe.training == fw.TrainingSettings()
        assert recipe.data.train == (str(tmp_path / "a.jsonl"),)
        assert recipe.data.dev == (str(tmp_path / "b.jsonl"),)

    def test_a_name_of_its_own(self, write):
        assert load_recipe(write('name = "yours"\n' + MINIMAL)).name == "yours"

    def test_data_and_task_are_needed(self, write):
        missing = [f"task.type: is missing; expected one of {', '.join(TASKS)}"]
        no_dev = "data.dev: is missing; name a file, or set data.holdout"
        assert mistakes(write("")) == [*missing, "data.train: is missing", no_dev]

    def test_dev_files_can_be_taken_from_the_training_files(self, write):
        text = '[task]\ntype = "ner"\n[data]\ntrain = "a.conll"\nholdout = 0.2\n'
        recipe = load_recipe(write(text))
        assert recipe.data.dev == ()
        train, dev = recipe.data.source("train"), recipe.data.source("dev")
        assert (train.files, dev.files) == (recipe.data.train, recipe.data.train)
        assert (train.held_out, dev.held_out) == (None, "dev")
        assert mistakes(write(text + 'dev = "b.conll"\n'))[0].startswith("data.dev: leave it out with data.holdout")

    def test_and_so_can_test_files(self, write):
        text = '[task]\ntype = "ner"\n[data]\ntrain = "a.conll"\nholdout = 0.2\ntest_holdout = 0.1\ntest_sample = 5\n'
        data = load_recipe(write(text + "train_sample = 50\n")).data
        assert data.has_test
        train, dev, test = (data.source(side) for side in ("train", "dev", "test"))
        assert {source.files for source in (train, dev, test)} == {data.train}
        assert [source.held_out for source in (train, dev, test)] == [None, "dev", "test"]
        assert {source.test_holdout for source in (train, dev, test)} == {0.1}
        assert [source.sample for source in (train, dev, test)] == [50, 50, 5]
        assert [source.holdout for source in (train, dev, test)] == [0.2, 0.2, 0]
        assert mistakes(write(text + 'test = "b.conll"\n'))[0].startswith(
            "data.test_holdout: leave it out with data.test"
        )


_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
_SIMPLE = _TEXTS | st.integers(-(2**40), 2**40) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)


class TestWrittenOverrides:
    @given(
        st.recursive(
            _SIMPLE,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
            max_leaves=6,
        )
    )
    def test_what_is_written_is_read_back(self, value):
        assert read_tables("conll04", [written_override("task.x", value)])["task"]["x"] == value

    def test_words_are_written_bare(self):
        assert written_override("training.precision", "bf16") == "training.precision=bf16"
        assert written_override("training.epochs", 3) == "training.epochs=3"
        assert written_override("data.dev", ["a b"]) == 'data.dev=["a b"]'

    def test_another_type_covers_the_table(self):
        overrides = ["training.epochs=3", "method.layers=top-2", "method.type=lora", "method.type=lora"]
        tables = read_tables("conll04-ptuning-v2", overrides)
        assert tables["method"] == {"type": "lora", "layers": "top-2"}
        assert read_tables("conll04-ptuning-v2", ["method.type=ptuning-v2"])["method"]["prompt_length"] == 20


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[trainin]\nepochs = 1\n", "trainin: unknown key; did you mean 'training'?"),
            ("[training]\nepoch = 1\n", "training.epoch: unknown key; did you mean 'epochs'?"),
            ("[backbone]\nnme = 'x'\n", "backbone.nme: unknown key; did you mean 'name'?"),
            ("[method]\nprompt_lenght = 1\n", "method.prompt_lenght: unknown key; did you mean 'prompt_length'?"),
            ("[method]\ntype = 'head-only'\nxyz = 1\n", "method.xyz: unknown key; there are: "),
            ("[task.columns]\ntxt = 'x'\n", "task.columns.txt: unknown key; did you mean 'text'?"),
            ("[task.columns]\nqqq = 'x'\n", "task.columns.qqq: unknown key; there are: text, pair, id, label"),
            ("[qqq]\n", "qqq: unknown key; there are: base, name, backbone, task, data, method, training"),
        ],
    )
    def test_told_with_what_was_meant(self, write, text, says):
        whole = MINIMAL.replace("[data]", text + "[data]") if text.startswith("[task.columns]") else MINIMAL + text
        (mistake,) = mistakes(write(whole))
        assert mistake.startswith(says)

    def test_in_data(self, write):
        (mistake,) = mistakes(write(MINIMAL + "formt = 'csv'\n"))
        assert mistake == "data.formt: unknown key; did you mean 'format'?"

    def test_of_another_task(self, write):
        (mistake,) = mistakes(write(MINIMAL.replace("[data]", "window = 3\n[data]")))
        assert mistake.startswith("task.window: unknown key")

    def test_base_misspelt(self, write):
        assert "bse: unknown key; did you mean 'base'?" in mistakes(write("bse = 'rte'\n" + MINIMAL))


class TestSeveralAtOnce:
    def test_all_are_told_and_the_file_is_named(self, write):
        path = write(
            "colour = 1\n"
            + MINIMAL.replace("[data]", "pooling = 'sum'\n[data]")
            + "[backbone]\ndtype = 'int4'\n[method]\ndropout = 1\nlayers = 5\n[training]\nepochs = 0\nseeds = 1\n"
        )
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        told = caught.value.mistakes
        assert [mistake.split(":")[0] for mistake in told] == [
            "colour",
            "backbone.dtype",
            "task.pooling",
            "method.layers",
            "method.dropout",
            "training.epochs",
            "training.seeds",
        ]
        assert str(caught.value).startswith(f"{path}: 7 mistakes:\n  - colour: ")

    def test_one_is_told_on_one_line(self, write):
        path = write(MINIMAL + "[training]\nepochs = 0\n")
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert str(caught.value) == f"{path}: training.epochs: Input should be greater than 0 (found 0)"


class TestWrongTypes:
    @pytest.mark.parametrize(
        ("override", "place", "found"),
        [
            ("training.epochs=many", "training.epochs", "'many'"),
            ("training.epochs=1.5", "training.epochs", "1.5"),
            ("training.learning_rate=fast", "training.learning_rate", "'fast'"),
            ("training.schedule=cosin", "training.schedule", "'cosin'"),
            ("training.tensorboard=maybe", "training.tensorboard", "'maybe'"),
            ("backbone.name=3", "backbone.name", "3"),
            ("task.columns.text=3", "task.columns.text", "3"),
            ("task.columns=3", "task.columns", "3"),
            ("task.labels=[1, 2]", "task.labels.0", "1"),
            ("task.labels=['a', 'b', 'a']", "task.labels", "'a' comes twice"),
            ("data.train=3", "data.train", "3"),
            ("data.train=['a', 3]", "data.train.1", "3"),
            ("data.format=xml", "data.format", "'xml'"),
            ("method.dropout=nan", "method.dropout", "nan"),
        ],
    )
    def test_told_with_what_was_found(self, write, override, place, found):
        told = mistakes(write(MINIMAL), override)
        assert told[0].startswith(f"{place}: ")
        assert found in told[0]

    @pytest.mark.parametrize("section", ["backbone", "task", "data", "method", "training"])
    def test_a_section_that_is_no_table(self, write, section):
        lines = {"task": '[task]\ntype = "ner"\n', "data": '[data]\ntrain = "a"\ndev = "b"\n'}
        rest = "".join(text for name, text in lines.items() if name != section)
        assert f"{section}: expected a table, as in [{section}]" in mistakes(write(f"{section} = 3\n{rest}"))

    def test_a_name_that_is_no_text(self, write):
        assert mistakes(write("name = 3\n" + MINIMAL)) == ["name: expected a text"]

    @pytest.mark.parametrize(
        ("override", "says"),
        [
            ("method.type=ptuning", "method.type: 'ptuning' is not one of ptuning-v2, "),
            ("task.type=nerr", f"task.type: 'nerr' is not one of {', '.join(TASKS)}. Did you mean 'ner'?"),
            ("task.type=3", "task.type: '3' is not one of"),
            ("method.type=[]", "method.type: '[]' is not one of"),
        ],
    )
    def test_types(self, write, override, says):
        (mistake,) = mistakes(write(MINIMAL), override)
        assert mistake.startswith(says)


class TestLayers:
    """A choice among three shapes is told of in one sentence that names all three."""

    @pytest.mark.parametrize(("value", "expected"), [("all", "all"), ("3-5", "3-5"), ("[0, 2]", (0, 2)), ('"3"', "3")])
    def test_good(self, write, value, expected):
        assert load_recipe(write(MINIMAL), [f"method.layers={value}"]).method.layers == expected

    @pytest.mark.parametrize("value", ["3", "1.5", "true", "[0, 'x']", "[0, true]", "[[0]]", "{a = 1}", "[0.0]"])
    def test_bad(self, write, value):
        (mistake,) = mistakes(write(MINIMAL), f"method.layers={value}")
        assert mistake.startswith(
            "method.layers: expected 'all', an interval such as '3-5', or a list of whole numbers"
        )
        assert "(found " in mistake


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "read"),
        [
            ("training.epochs=3", lambda r: r.training.epochs == 3),
            ("training.learning_rate=3e-2", lambda r: r.training.learning_rate == 0.03),
            ("training.tensorboard=true", lambda r: r.training.tensorboard is True),
            ("training.schedule=cosine", lambda r: r.training.schedule == "cosine"),
            ("training.schedule='cosine'", lambda r: r.training.schedule == "cosine"),
            (" training.epochs = 3 ", lambda r: r.training.epochs == 3),
            ("task.labels=['a', 'b']", lambda r: r.task.labels == ("a", "b")),
            ("task.columns.text=sentence", lambda r: r.task.columns.text == "sentence"),
            ("task.columns.text=a=b", lambda r: r.task.columns.text == "a=b"),
            ("task.columns={text = 'x', label = 'y'}", lambda r: r.task.columns.label == "y"),
            ("backbone.name=owner/model", lambda r: r.backbone.name == "owner/model"),
            ('backbone.revision="1234"', lambda r: r.backbone.revision == "1234"),
            ("method.type=head-only", lambda r: r.method == fw.HeadOnly()),
            ("data.separator=", lambda r: r.data.separator == ""),
        ],
    )
    def test_values(self, write, override, read):
        assert read(load_recipe(write(MINIMAL), [override]))

    def test_the_last_one_counts(self, write):
        assert load_recipe(write(MINIMAL), ["training.epochs=3", "training.epochs=4"]).training.epochs == 4

    def test_columns_are_changed_one_by_one(self, write):
        text = MINIMAL.replace("[data]", "columns = {text = 'x'}\n[data]")
        columns = load_recipe(write(text), ["task.columns.label=y"]).task.columns
        assert (columns.text, columns.label) == ("x", "y")

    @pytest.mark.parametrize(
        "override", ["", "training", "training.epochs", "epochs=3", "=3", ".=3", "training.=3", ".epochs=3", "a..b=3"]
    )
    def test_bad_syntax(self, write, override):
        (mistake,) = mistakes(write(MINIMAL), override)
        assert mistake == f"--set {override}: expected section.key=value, such as training.epochs=3"

    def test_a_way_through_what_is_no_table(self, write):
        (mistake,) = mistakes(write(MINIMAL), "data.train.first=3")
        assert mistake == "--set data.train.first=3: 'train' is not a table"

    @pytest.mark.parametrize("value", ["[" * 3000, "9" * 5000, "\0", "1 2", "1970-01-01", "{}", '"""'])
    def test_odd_values(self, write, value):
        (mistake,) = mistakes(write(MINIMAL), f"training.epochs={value}")
        assert mistake.startswith("training.epochs: ")
        assert len(mistake) < 200

    def test_a_value_sets_nothing_but_itself(self, write):
        recipe = load_recipe(write(MINIMAL), ["training.epochs=1 # 2\nseed = 2"])
        assert recipe.training == fw.TrainingSettings(epochs=1)


class TestPaths:
    def test_are_relative_to_the_recipe(self, write, tmp_path, monkeypatch):
        write(MINIMAL, "deep/mine.toml")
        monkeypatch.chdir(tmp_path)
        recipe = load_recipe("deep/mine.toml")
        assert recipe.data.source("train").files == ("deep/a.jsonl",)  # as messages name it
        assert recipe.to_dict()["data"]["train"] == [str(tmp_path / "deep" / "a.jsonl")]  # as a record needs it

    def test_absolute_ones_and_the_hub_stay(self, write):
        recipe = load_recipe(write(MINIMAL), ["data.train=['/x/a.jsonl', 'hub:owner/name/part']"])
        assert recipe.data.train == ("/x/a.jsonl", "hub:owner/name/part")

    def test_home(self, write, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        overrides = ["data.train=~/a.jsonl", "backbone.name=~/model"]
        recipe = load_recipe(write(MINIMAL), overrides)
        assert recipe.data.train == (str(tmp_path / "home" / "a.jsonl"),)
        assert recipe.backbone.name == str(tmp_path / "home" / "model")
        (mistake,) = mistakes(write(MINIMAL), "data.train=~nosuchuser/a.jsonl")
        assert mistake == "data.train: there is no home folder for '~nosuchuser/a.jsonl'"

    @pytest.mark.parametrize("name", ["./model", "../model", "."])
    def test_a_backbone_beside_the_recipe(self, write, tmp_path, monkeypatch, name):
        write(MINIMAL + f"[backbone]\nname = '{name}'\n", "deep/mine.toml")
        monkeypatch.chdir(tmp_path / "deep")
        assert load_recipe("mine.toml").backbone.name == str(tmp_path / "deep" / name)

    @pytest.mark.parametrize("reference", ["$PLACE/a.jsonl", "${PLACE}/a.jsonl"])
    def test_variables(self, write, monkeypatch, reference):
        monkeypatch.setenv("PLACE", "/somewhere")
        overrides = [f"data.train={reference}", f'data.dev=["{reference}", "b"]']
        recipe = load_recipe(write(MINIMAL), overrides)
        assert recipe.data.train == ("/somewhere/a.jsonl",)
        assert recipe.data.dev[0] == "/somewhere/a.jsonl"

    def test_variables_that_are_not_set(self, write, monkeypatch):
        monkeypatch.delenv("PLACE", raising=False)
        told = mistakes(write(MINIMAL), "data.train=$PLACE/a.jsonl", "data.dev=${OTHER_PLACE}/b.jsonl")
        assert [mistake.split(" is not set")[0] for mistake in told] == [
            "data.train: the environment variable PLACE",
            "data.dev: the environment variable OTHER_PLACE",
        ]


class TestBase:
    @pytest.fixture(autouse=True)
    def _data(self, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")

    def test_fills_in_what_is_left_out(self, write):
        recipe, base = load_recipe(write('base = "rte"\n[training]\nepochs = 3\n')), load_recipe("rte")
        assert recipe.name == "mine"
        assert (recipe.task, recipe.data, recipe.backbone) == (base.task, base.data, base.backbone)
        assert recipe.training == base.training.model_copy(update={"epochs": 3})

    def test_table_by_table(self, write):
        recipe = load_recipe(write('base = "rte"\n[task.columns]\nlabel = "gold"\n'))
        assert recipe.task.columns.model_dump() == {**load_recipe("rte").task.columns.model_dump(), "label": "gold"}

    def test_a_base_that_has_a_base(self, write):
        recipe, base = (
            load_recipe(write('base = "rte-ptuning-v2"\n[method]\ndropout = 0.3\n')),
            load_recipe("rte-ptuning-v2"),
        )
        assert recipe.name == "mine"
        assert recipe.data == base.data
        assert recipe.method == base.method.model_copy(update={"dropout": 0.3})

    def test_another_type_takes_none_of_the_settings(self, write):
        recipe = load_recipe(write('base = "rte-ptuning-v2"\n[method]\ntype = "head-only"\n[task]\ntype = "qa"\n'))
        assert recipe.method == fw.HeadOnly()
        assert recipe.task == fw.QA()

    @pytest.mark.parametrize("base", ['"no-such"', "3", '["rte", "no-such"]', '[["rte"]]', '"mine"', '"../rte"'])
    def test_an_unknown_one(self, write, base):
        (mistake,) = mistakes(write(f"base = {base}\n"))
        assert mistake.startswith("base: no packaged recipe '")
        assert "rte-ptuning-v2, " in mistake
        assert "roberta-large/..., " in mistake
        assert "roberta-large/rte" not in mistake

    def test_a_mistake_in_a_folder_is_answered_with_what_is_in_it(self, write):
        (mistake,) = mistakes(write('base = "roberta-large/rte"\n'))
        assert "roberta-large/rte-ptuning-v2, " in mistake
        assert "(there are: roberta-large/" in mistake
        assert " bert-large/" not in mistake

    def test_several_are_laid_one_over_the_other(self, write):
        recipe = load_recipe(write('base = ["rte", "parts/ptuning-v2", "conll04-ptuning-v2"]\n[method]\ngate = true\n'))
        last = load_recipe("conll04-ptuning-v2")
        assert recipe.name == "mine"
        assert (recipe.task, recipe.data.train) == (last.task, last.data.train)
        assert recipe.method == last.method.model_copy(update={"gate": True})
        assert recipe.training == last.training.model_copy(
            update={"warmup_ratio": 0.0, "attention_dropout": 0.1, "max_length": load_recipe("rte").training.max_length}
        )


class TestFiles:
    @pytest.mark.parametrize(
        "text", ["[task\n", "a = \n", "a = 1\na = 2\n", "x = " + "[" * 5000, "x = " + "9" * 5000, "\0"]
    )
    def test_invalid_toml(self, write, text):
        (mistake,) = mistakes(write(text))
        assert mistake.startswith("not valid TOML: ")

    def test_not_utf8(self, write):
        assert mistakes(write(b"# caf\xe9\n")) == ["not UTF-8 (byte 5)"]

    def test_a_byte_order_mark_is_no_mistake(self, write):
        assert load_recipe(write(b"\xef\xbb\xbf" + MINIMAL.encode())).name == "mine"

    def test_not_there(self, tmp_path):
        assert mistakes(tmp_path / "none.toml") == ["no such file"]
        (tmp_path / "folder.toml").mkdir()
        assert mistakes(tmp_path / "folder.toml") == ["cannot be read (Is a directory)"]

    @pytest.mark.parametrize("name", ["rtee", "", "../rte", "rte/", "."])
    def test_no_packaged_recipe(self, name):
        (mistake,) = mistakes(name)
        known = ", ".join([*packaged_in(""), *(f"{folder}/..." for folder in packaged_folders())])
        assert mistake.startswith(f"no such file, nor a packaged recipe of that name (there are: {known})")


@pytest.mark.parametrize("name", SINGLE)
class TestPackagedRecipes:
    @pytest.fixture(autouse=True)
    def _data(self, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")

    def test_loads(self, name):
        recipe = load_recipe(name)
        assert recipe.name == name
        assert isinstance(recipe.task, tuple(TASKS.values()))
        assert isinstance(recipe.method, tuple(METHODS.values()))
        assert isinstance(recipe.training, fw.TrainingSettings)
        files = (*recipe.data.train, *recipe.data.dev, *recipe.data.test)
        assert all(file.startswith(("/data/", "hub:")) for file in files)

    def test_comes_back_from_its_resolved_form(self, name, tmp_path):
        recipe = load_recipe(name)
        (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe.to_dict()), "utf-8")
        again = load_recipe(tmp_path / "recipe.toml")
        assert again.to_dict() == recipe.to_dict()
        assert (again.task, again.data, again.method) == (recipe.task, recipe.data, recipe.method)


@pytest.mark.parametrize("name", [name for name in packaged_in("") if name not in SEVERAL])
def test_says_by_its_name_which_method_it_is(name, monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", "/data")
    recipe = load_recipe(name)
    method = next((method for method in METHODS if name.endswith(f"-{method}")), None)
    assert recipe.method.name == (method or "ptuning-v2")
    assert load_recipe(name.removesuffix(f"-{method}")).data == recipe.data


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("method.layers=3-5",),
        ("method.layers=[0, 2]", "training.learning_rate=0.25", "training.early_stopping_patience=2"),
        ("task.labels=['b', 'a', '\"', 'caf\u00e9']", "task.columns.pair=second"),
        ("data.train=['a.jsonl', 'hub:x/y']", "data.separator=' '", "data.train_limit=4"),
        ("backbone.name=./here", "backbone.revision=main", "backbone.dtype=bfloat16"),
        ("method.type=fine-tuning",),
    ],
)
def test_a_resolved_recipe_means_the_same_from_any_folder(write, tmp_path, monkeypatch, overrides):
    path = write(MINIMAL, "deep/mine.toml")
    monkeypatch.chdir(tmp_path)
    seen_from_here = load_recipe("deep/mine.toml", overrides)
    resolved = write(tomli_w.dumps(seen_from_here.to_dict()), "runs/mine/recipe.toml")
    monkeypatch.chdir("/")
    again = load_recipe(resolved)
    assert again == load_recipe(path, overrides)
    assert again.to_dict() == load_recipe(path, overrides).to_dict()
    assert replace(seen_from_here, data=again.data) == again
