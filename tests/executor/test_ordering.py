"""Ranges of rows that many workers do in any order: cut into pieces, put back in order, each row once."""

import random

import pytest

from u2s_datasets.executor.ordering import ReorderBuffer, RowAnswer, RowRange


@pytest.mark.parametrize("workers", [1, 2, 7, 500])
@pytest.mark.parametrize(
    "ranges",
    [
        [RowRange(0, 0, 256), RowRange(1, 256, 300)],
        [RowRange(3, 0, 1), RowRange(9, 1, 2)],
        [RowRange(0, 7, 4007)],
    ],
)
def test_the_pieces_are_all_rows_once_long_first_and_short_at_the_end(ranges, workers):
    pieces = ReorderBuffer(ranges).missing(workers)
    covered = [(piece.shard, row) for piece in pieces for row in range(piece.start, piece.stop)]
    assert covered == [(rows.shard, row) for rows in ranges for row in range(rows.start, rows.stop)]
    lengths = [len(piece) for piece in pieces]
    rows = sum(lengths)
    assert max(lengths) <= 32
    assert max(lengths[len(lengths) // 2 :], default=0) * workers <= max(4 * workers, rows)  # nobody waits for long


def test_answers_in_any_order_come_back_once_and_in_order():
    buffer = ReorderBuffer([RowRange(0, 0, 40), RowRange(1, 40, 60)])
    answers = [RowAnswer(int(row >= 40), row, {"row": row}) for row in range(60)] * 2
    random.Random(7).shuffle(answers)
    back = {0: [], 1: []}
    for shard, rows in buffer.in_order(answers):
        back[shard] += [row["row"] for row in rows]
    assert back == {0: list(range(40)), 1: list(range(40, 60))}
    assert buffer.left == 0 and buffer.missing(2) == []


def test_what_is_missing_is_what_no_answer_came_for():
    buffer = ReorderBuffer([RowRange(0, 0, 20)])
    assert list(buffer.in_order(RowAnswer(0, row, {}) for row in (0, 1, 2, 9))) == [(0, [{}])] * 3
    missing = {row for piece in buffer.missing(1) for row in range(piece.start, piece.stop)}
    assert missing >= set(range(20)) - {0, 1, 2, 9}
    assert missing.isdisjoint({0, 1, 2})
    assert buffer.left == 16
    assert buffer.missing(1, longest=1) == [RowRange(0, row, row + 1) for row in range(3, 20) if row != 9]
