from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.batching import (
    IGNORED,
    SIMILAR,
    Encoded,
    bucketed_batches,
    collate,
    padding_ratio,
    sorted_batches,
    token_batches,
)

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)
SIZES = {"batch_size": st.integers(1, 40), "pool": st.integers(1, 8), "seed": st.integers(0, 9)}


def shuffled(lengths, batch_size, *, seed=3, epoch=0, pool=50):
    return bucketed_batches(lengths, batch_size, seed=seed, epoch=epoch, pool_batches=pool)


@given(lengths=LENGTHS, **SIZES)
def test_every_row_is_in_one_batch_and_one_batch_at_most_is_small(lengths, batch_size, pool, seed):
    batches = shuffled(lengths, batch_size, seed=seed, pool=pool)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[0] >= 1
    assert all(size == batch_size for size in sizes[1:])
    assert sizes[-1] <= batch_size


@given(lengths=LENGTHS, **SIZES)
def test_the_arguments_decide_alone(lengths, batch_size, pool, seed):
    first = shuffled(lengths, batch_size, seed=seed, pool=pool)
    random.seed(1)
    random.random()
    assert shuffled(lengths, batch_size, seed=seed, pool=pool) == first


def test_seeds_and_epochs_give_other_orders():
    lengths = [1 + i % 17 for i in range(200)]
    orders = [shuffled(lengths, 8, seed=seed, epoch=epoch) for seed in range(4) for epoch in range(4)]
    assert all(one != other for i, one in enumerate(orders) for other in orders[:i])


def test_batches_are_not_in_order_of_length_but_rows_are_alike():
    lengths = [1 + (7 * i) % 200 for i in range(200)]
    batches = shuffled(lengths, 10)
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts != sorted(firsts)
    assert all(max(lengths[i] for i in batch) - min(lengths[i] for i in batch) < 10 for batch in batches)


def test_buckets_pad_less_than_chance_and_smaller_pools_mix_more():
    generator = random.Random(5)
    lengths = [generator.randint(4, 100) for _ in range(2000)]
    order = list(range(len(lengths)))
    generator.shuffle(order)
    by_chance = padding_ratio(lengths, [order[i : i + 16] for i in range(0, len(order), 16)])
    small = padding_ratio(lengths, shuffled(lengths, 16, pool=4))
    large = padding_ratio(lengths, shuffled(lengths, 16, pool=50))
    assert large < small < by_chance
    assert large < by_chance / 5


@given(lengths=LENGTHS, batch_size=st.integers(1, 40))
def test_sorted_batches_hold_every_row_once_in_order_of_length(lengths, batch_size):
    batches = list(sorted_batches(lengths, batch_size))
    rows = [i for batch in batches for i in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[i] for i in rows] == sorted(lengths)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_padding_ratio_by_hand():
    assert padding_ratio([2, 4, 3], [[0, 1], [2]]) == pytest.approx(2 / 11)
    assert padding_ratio([3, 3], [[0, 1]]) == 0
    assert padding_ratio([], []) == 0


class TestCollate:
    ROWS = (
        Encoded(input_ids=[5, 6, 7], token_type_ids=[0, 1, 1], targets={"tags": [1, IGNORED, 2], "label": 3}),
        Encoded(input_ids=[8], token_type_ids=[0], targets={"tags": [4], "label": 1}),
        Encoded(input_ids=[9, 9, 9, 9, 9], token_type_ids=[1] * 5, targets={"tags": [0] * 5, "label": 2}),
    )

    def test_pads_on_the_right_to_the_longest_of_the_batch(self):
        batch = collate(self.ROWS, [1, 0], pad_id=77)
        assert batch.input_ids.tolist() == [[8, 77, 77], [5, 6, 7]]
        assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
        assert batch.token_type_ids.tolist() == [[0, 0, 0], [0, 1, 1]]
        assert batch.targets["tags"].tolist() == [[4, IGNORED, IGNORED], [1, IGNORED, 2]]
        assert batch.targets["label"].tolist() == [1, 3]
        assert batch.indices == (1, 0)
        assert batch.input_ids.dtype == batch.targets["label"].dtype == torch.int64

    def test_without_token_types(self):
        batch = collate([Encoded(input_ids=[1]), Encoded(input_ids=[2, 3])], [0, 1], pad_id=0)
        assert batch.token_type_ids is None
        assert batch.targets == {}

    def test_only_some_rows_have_token_types(self):
        rows = [Encoded(input_ids=[1]), Encoded(input_ids=[2, 3], token_type_ids=[0, 1])]
        assert collate(rows, [0, 1], pad_id=0).token_type_ids.tolist() == [[0, 0], [0, 1]]

    def test_a_target_that_some_row_lacks_is_left_out(self):
        rows = [*self.ROWS, Encoded(input_ids=[1], targets={"label": 0})]
        for order in ([0, 3], [3, 0]):
            assert set(collate(rows, order, pad_id=0).targets) == {"label"}

    def test_numbers_that_are_not_whole(self):
        rows = [Encoded(input_ids=[1] * 3, targets={"score": 0.5}), Encoded(input_ids=[2], targets={"score": -2.0})]
        scores = collate(rows, [1, 0], pad_id=0).targets["score"]
        assert scores.tolist() == [-2.0, 0.5]
        assert scores.dtype == torch.float32

    def test_one_number_per_label_is_not_one_per_token(self):
        rows = [
            Encoded(input_ids=[1] * 3, targets={"labels": [1, 0]}),
            Encoded(input_ids=[2], targets={"labels": [0, 0]}),
        ]
        labels = collate(rows, [0, 1], pad_id=0).targets["labels"]
        assert labels.tolist() == [[1, 0], [0, 0]]
        assert labels.dtype == torch.int64

    def test_padding_an_encoding_with_the_tokenizer_gives_the_same(self, backbone):
        texts = ["Anna visited London.", "It", "Nobody wrote a letter to O'Brien."]
        rows = [Encoded(input_ids=backbone.tokenizer(text)["input_ids"]) for text in texts]
        batch = collate(rows, range(3), backbone.tokenizer.pad_token_id)
        expected = backbone.tokenizer(texts, padding=True, return_tensors="pt")
        assert torch.equal(batch.input_ids, expected["input_ids"])
        assert torch.equal(batch.attention_mask, expected["attention_mask"])

    def test_moving_keeps_everything(self):
        batch = collate(self.ROWS, [0, 2], pad_id=0)
        moved = batch.to(torch.device("meta"))
        assert {t.device.type for t in (moved.input_ids, moved.token_type_ids, *moved.targets.values())} == {"meta"}
        assert (moved.indices, set(moved.targets)) == (batch.indices, set(batch.targets))


class TestGroups:
    """Rows of one example that are compared in the loss stand in one batch."""

    def test_a_group_is_never_torn_apart_and_every_row_comes_once(self):
        groups = [range(0, 2), range(2, 5), range(5, 6), range(6, 10)]
        lengths = [3, 9, 4, 4, 4, 7, 2, 2, 8, 2]
        batches = bucketed_batches(lengths, 2, seed=1, epoch=0, groups=groups)
        assert sorted(i for batch in batches for i in batch) == list(range(10))
        for group in groups:
            (home,) = [batch for batch in batches if group[0] in batch]
            start = home.index(group[0])
            assert home[start : start + len(group)] == list(group)

    def test_the_size_of_a_batch_counts_groups(self):
        groups = [range(3 * i, 3 * i + 3) for i in range(5)]
        batches = bucketed_batches([5] * 15, 2, seed=1, epoch=0, groups=groups)
        assert sorted(map(len, batches)) == [3, 6, 6]


def test_marks_are_padded_with_zeros_and_missing_where_no_row_has_any():
    rows = [Encoded(input_ids=[1, 2, 3], marks=[0, 1, 0]), Encoded(input_ids=[4, 5, 6, 7]), Encoded(input_ids=[8])]
    batch = collate(rows, [0, 1], 0)
    assert batch.marks is not None
    assert batch.marks.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert collate(rows, [1, 2], 0).marks is None
    assert batch.to(batch.marks.device).marks is not None


@given(
    items=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 6)), max_size=40),
    batch_size=st.integers(1, 20),
    most_tokens=st.integers(1, 300),
)
def test_sorted_batches_of_items_with_several_rows_keep_both_limits(items, batch_size, most_tokens):
    lengths, rows = [length for length, _ in items], [count for _, count in items]
    batches = list(sorted_batches(lengths, batch_size, most_tokens=most_tokens, rows=rows))
    assert sorted(i for batch in batches for i in batch) == list(range(len(items)))
    for batch in batches:
        taken = sum(rows[i] for i in batch)
        assert len(batch) == 1 or (taken <= batch_size and taken * max(lengths[i] for i in batch) <= most_tokens)
    for batch, following in pairwise(batches):  # none is smaller than it must be
        taken = sum(rows[i] for i in batch) + rows[following[0]]
        assert taken > batch_size or taken * lengths[following[0]] > most_tokens


class TestBatchesByTokens:
    @given(lengths=LENGTHS, most=st.integers(1, 400), seed=st.integers(0, 9), epoch=st.integers(0, 9))
    def test_every_row_once_in_batches_that_fit_and_equally_many_in_every_epoch(self, lengths, most, seed, epoch):
        batches = token_batches(lengths, most, seed=seed, epoch=epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most for batch in batches)
        other = token_batches(lengths, most, seed=seed + 1, epoch=epoch + 1)
        assert sorted(map(len, other)) == sorted(map(len, batches))
        assert token_batches(lengths, most, seed=seed, epoch=epoch) == batches

    @given(lengths=LENGTHS, most=st.integers(1, 400))
    def test_batches_are_as_large_as_what_they_hold_allows(self, lengths, most):
        """But for one, another row would not fit, were all as long as the longest that they were mixed with."""
        batches = token_batches(lengths, most, seed=1, epoch=0)
        small = [batch for batch in batches if (len(batch) + 1) * max(lengths[i] for i in batch) <= SIMILAR * most]
        assert len(small) <= 1

    @given(least=st.integers(20, 40), span=st.integers(1, 60), most=st.integers(100, 500), seed=st.integers(0, 9))
    def test_where_rows_of_every_length_are_many_those_of_a_batch_are_similar(self, least, span, most, seed):
        lengths = [length for length in range(least, least + span) for _ in range(most // least + 1)]
        random.Random(seed).shuffle(lengths)
        for batch in token_batches(lengths, most, seed=seed, epoch=0):
            assert min(lengths[i] for i in batch) >= SIMILAR * max(lengths[i] for i in batch)

    def test_by_hand(self):
        """Of 40 positions: one row of 30; two of 20 down to 18; four of 10, of which there are three."""
        lengths = [10, 19, 30, 20, 10, 20, 10, 18]
        for epoch in range(5):
            batches = token_batches(lengths, 40, seed=0, epoch=epoch)
            assert sorted(sorted(lengths[i] for i in batch) for batch in batches)[0] == [10, 10, 10]
            assert sorted(map(len, batches)) == [1, 2, 2, 3]
            assert [2] in batches

    def test_a_row_that_is_too_long_stands_alone(self):
        batches = token_batches([50, 3, 3, 60, 3], 9, seed=2, epoch=0)
        assert sorted(map(sorted, batches)) == [[0], [1, 2, 4], [3]]

    def test_rows_of_a_class_meet_others_in_every_epoch(self):
        lengths = [100 - i % 8 for i in range(160)]
        mates = [Counter(), Counter()]
        for epoch, met in enumerate(mates):
            for batch in token_batches(lengths, 400, seed=0, epoch=epoch):
                met.update((i, j) for i in batch for j in batch if i != j)
        assert len(mates[0] & mates[1]) < 0.1 * len(mates[0])

    @given(
        sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 30)), min_size=1, max_size=60),
        most=st.integers(1, 300),
        seed=st.integers(0, 9),
    )
    def test_groups_stay_whole_and_count_with_all_their_rows(self, sizes, most, seed):
        lengths, groups = [], []
        for rows, longest in sizes:
            groups.append(range(len(lengths), len(lengths) + rows))
            lengths += [max(1, longest - row) for row in range(rows)]
        batches = token_batches(lengths, most, seed=seed, epoch=0, groups=groups)
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        starts = {group[0]: group for group in groups}
        for batch in batches:
            held, left = [], list(batch)
            while left:
                held.append(starts[left[0]])
                assert left[: len(held[-1])] == list(held[-1])
                left = left[len(held[-1]) :]
            assert len(held) == 1 or len(batch) * max(lengths[i] for i in batch) <= most
        assert len(token_batches(lengths, most, seed=seed, epoch=1, groups=groups)) == len(batches)

    def test_nothing_in_nothing_out(self):
        assert token_batches([], 5, seed=0, epoch=0) == []
