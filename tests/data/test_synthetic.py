from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from foreword.data.readers import read_records
from foreword.data.synthetic import Sizes, write_example_data
from foreword.data.synthetic.diary import TYPES
from foreword.data.synthetic.tickets import LABELS
from foreword.errors import OutputError


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_example_data(tmp_path_factory.mktemp("examples"))


def fields(path: Path) -> list[dict]:
    return [dict(record.fields) for record in read_records(path)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_writes_the_same_bytes(paths, tmp_path):
    folder = paths.tickets_dev.parent
    write_example_data(tmp_path / "new" / "folder")
    assert contents(tmp_path / "new" / "folder") == contents(folder)
    assert sorted(contents(folder)) == [
        "diary-dev.conll",
        "diary-train.conll",
        "notices-dev.json",
        "notices-train.json",
        "tickets-dev.jsonl",
        "tickets-train.jsonl",
    ]


def test_another_seed_writes_other_bytes(paths, tmp_path):
    write_example_data(tmp_path, seed=1)
    first, second = contents(paths.tickets_dev.parent), contents(tmp_path)
    assert all(first[name] != second[name] for name in first)


def test_dev_files_do_not_depend_on_the_size_of_training_files(paths, tmp_path):
    small = write_example_data(tmp_path, sizes=Sizes(tickets_train=10, diary_train=10, notices_train=10))
    for name in ("tickets_dev", "diary_dev", "notices_dev"):
        assert getattr(small, name).read_bytes() == getattr(paths, name).read_bytes()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tickets_train", 400),
        ("tickets_dev", 150),
        ("diary_train", 400),
        ("diary_dev", 150),
        ("notices_train", 400),
        ("notices_dev", 120),
    ],
)
def test_sizes_are_as_asked(paths, name, size):
    assert len(fields(getattr(paths, name))) == size


def test_sizes_that_do_not_divide_evenly(tmp_path):
    sizes = Sizes(**dict.fromkeys(Sizes.__slots__, 7))
    written = write_example_data(tmp_path, sizes=sizes)
    assert [len(fields(getattr(written, name))) for name in Sizes.__slots__] == [7] * 6


def test_a_size_must_be_positive():
    with pytest.raises(ValueError, match="diary_dev must be at least 1"):
        Sizes(diary_dev=0)


def test_a_file_that_is_not_ours_is_left_alone(tmp_path):
    mine = tmp_path / "diary-dev.conll"
    mine.write_text("mine")
    with pytest.raises(OutputError, match=re.escape(str(mine))):
        write_example_data(tmp_path)
    assert contents(tmp_path) == {"diary-dev.conll": b"mine"}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_example_data(tmp_path / "file")


def test_writing_again_is_no_error(tmp_path):
    assert write_example_data(tmp_path) == write_example_data(tmp_path)


@pytest.mark.parametrize("kind", ["tickets", "diary", "notices"])
def test_no_dev_text_is_in_the_training_file(paths, kind):
    def texts(path: Path) -> list[str]:
        names = {"tickets": "text", "diary": "tokens", "notices": "context"}
        return [str(item[names[kind]]) for item in fields(path)]

    train, dev = texts(getattr(paths, f"{kind}_train")), texts(getattr(paths, f"{kind}_dev"))
    assert not set(train) & set(dev)
    if kind != "notices":  # several questions share one notice
        assert len(set(train + dev)) == len(train) + len(dev)


def test_ticket_labels_are_even(paths):
    assert Counter(item["label"] for item in fields(paths.tickets_train)) == dict.fromkeys(LABELS, 80)
    assert Counter(item["label"] for item in fields(paths.tickets_dev)) == dict.fromkeys(LABELS, 30)


def test_most_tickets_name_a_wish_that_is_not_their_label(paths):
    words = {
        "refund": r"refund|money back|repayment|what I paid|dollars back|back on my card",
        "replacement": r"replace|exchange|swap|another (?!delivery)|a new ",
        "tracking": r"tracking|arriv|where it is|courier|trace",
        "change": r"delivery address|later delivery|colour|larger size|office|deliver it|blue one",
        "cancellation": r"cancel|stop|end to this|called off|call the whole|\bdrop\b",
    }
    named = [
        {label for label, pattern in words.items() if re.search(pattern, item["text"], re.IGNORECASE)}
        for item in fields(paths.tickets_train)
    ]
    owns = [item["label"] for item in fields(paths.tickets_train)]
    assert all(own in found for own, found in zip(owns, named, strict=True))
    assert sum(len(found) > 1 for found in named) > 0.75 * len(named)


def test_no_slot_is_left_unfilled(paths):
    tickets = [item["text"] for item in fields(paths.tickets_train)]
    tokens = [token for item in fields(paths.diary_train) for token in item["tokens"]]
    notices = [item["context"] + item["question"] for item in fields(paths.notices_train)]
    assert not [text for text in tickets + tokens + notices if re.search("[{}]", text)]


def test_diary_tags_are_valid_iob2_of_every_type(paths):
    kinds = Counter()
    for sentence in fields(paths.diary_train):
        before = "O"
        for tag in sentence["tags"]:
            assert tag == "O" or tag[:2] in {"B-", "I-"}
            if tag.startswith("I-"):
                assert before[2:] == tag[2:]
            if tag.startswith("B-"):
                kinds[tag[2:]] += 1
            before = tag
    assert set(kinds) == set(TYPES)
    assert min(kinds.values()) > 50


def entity_words(path: Path) -> set[tuple[str, str]]:
    return {
        (token, tag[2:])
        for sentence in fields(path)
        for token, tag in zip(sentence["tokens"], sentence["tags"], strict=True)
        if tag != "O" and token[0].isalpha()
    }


def test_dev_diary_has_names_that_training_has_not(paths):
    train = {word for word, _ in entity_words(paths.diary_train)}
    dev = {word for word, _ in entity_words(paths.diary_dev)}
    assert len(dev - train) > 0.3 * len(dev)


def test_some_diary_names_are_of_several_types(paths):
    types = Counter(word for word, _ in entity_words(paths.diary_train))
    assert sum(number > 1 for number in types.values()) >= 20
    assert types["May"] > 1


@pytest.mark.parametrize("name", ["notices_train", "notices_dev"])
def test_notice_answers_stand_where_they_say(paths, name):
    for item in fields(getattr(paths, name)):
        assert item["is_impossible"] == (not item["answers"])
        for answer in item["answers"]:
            assert answer["text"]
            assert item["context"].startswith(answer["text"], answer["answer_start"])


@pytest.mark.parametrize("name", ["notices_train", "notices_dev"])
def test_one_notice_question_in_five_has_no_answer(paths, name):
    items = fields(getattr(paths, name))
    assert sum(item["is_impossible"] for item in items) == len(items) / 5
    assert len({item["id"] for item in items}) == len(items)


def test_notices_are_three_to_six_sentences(paths):
    for item in fields(paths.notices_train):
        sentences = re.findall(r"[.](?: |$)", item["context"])
        assert 3 <= len(sentences) <= 6


def test_notices_say_that_they_are_squad_two(paths):
    assert json.loads(paths.notices_dev.read_text(encoding="utf-8"))["version"] == "v2.0"


def test_diary_names_of_several_words_are_one_entity(paths):
    tagged = [pair for item in fields(paths.diary_train) for pair in zip(item["tokens"], item["tags"], strict=True)]
    assert {tag for _, tag in tagged} == {"O", *(f"{mark}-{kind}" for mark in "BI" for kind in TYPES)}
    after_bank = [after for (word, tag), after in pairwise(tagged) if (word, tag[:1]) == ("Bank", "B")]
    assert set(after_bank) == {("of", "I-ORGANISATION")}
