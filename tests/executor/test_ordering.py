"""Stretches that many workers do in any order: cut into pieces, put back in order, each row once."""

import random

import pytest

from u2s_datasets.executor.ordering import InOrder


@pytest.mark.parametrize("workers", [1, 2, 7, 500])
@pytest.mark.parametrize("stretches", [[(0, 0, 256), (1, 256, 300)], [(3, 0, 1), (9, 1, 2)], [(0, 7, 4007)]])
def test_the_pieces_are_all_rows_once_long_first_and_short_at_the_end(stretches, workers):
    pieces = InOrder(stretches).missing(workers)
    covered = [(shard, row) for shard, start, stop in pieces for row in range(start, stop)]
    assert covered == [(shard, row) for shard, start, stop in stretches for row in range(start, stop)]
    lengths = [stop - start for _, start, stop in pieces]
    rows = sum(lengths)
    assert max(lengths) <= 32
    assert max(lengths[len(lengths) // 2 :], default=0) * workers <= max(4 * workers, rows)  # nobody waits for long


def test_answers_in_any_order_come_back_once_and_in_order():
    order = InOrder([(0, 0, 40), (1, 40, 60)])
    answers = [(int(row >= 40), row, {"row": row}) for row in range(60)] * 2
    random.Random(7).shuffle(answers)
    back = {0: [], 1: []}
    for answer in answers:
        for shard, rows in order.add(*answer):
            back[shard] += [row["row"] for row in rows]
    assert back == {0: list(range(40)), 1: list(range(40, 60))}
    assert order.left == 0 and order.missing(2) == []


def test_what_is_missing_is_what_no_answer_came_for():
    order = InOrder([(0, 0, 20)])
    for row in (0, 1, 2, 9):
        list(order.add(0, row, {}))
    missing = {row for _, start, stop in order.missing(1) for row in range(start, stop)}
    assert missing >= set(range(20)) - {0, 1, 2, 9}
    assert missing.isdisjoint({0, 1, 2})
    assert order.left == 16
    assert order.missing(1, longest=1) == [(0, row, row + 1) for row in range(3, 20) if row != 9]
