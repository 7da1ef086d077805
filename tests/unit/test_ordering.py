"""Orders by radix, against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2d2.scan import ordering
from r2d2.scan.ordering import order_of, order_of_hashes

MANY = st.lists(st.integers(0, 2**64 - 1), max_size=40)
# Few first halves, so that words agree in these and differ behind them.
ALIKE = st.lists(st.builds(lambda high, low: high << 32 | low, st.integers(0, 3), st.integers(0, 3)), max_size=60)


@given(numbers=st.one_of(MANY, ALIKE), bits=st.sampled_from([1, 8, 16, 17, 31, 33, 63]))
def test_numbers_are_in_their_stable_order(numbers: list[int], bits: int) -> None:
    words = np.array([number % (1 << bits) for number in numbers], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "FEW", 0)
        assert order_of(words).tolist() == np.argsort(words, kind="stable").tolist()


@given(numbers=st.one_of(MANY, ALIKE))
def test_hashes_are_in_the_stable_order_of_unsigned_words(numbers: list[int]) -> None:
    words = np.array(numbers, np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "FEW", 0)
        assert order_of_hashes(words).tolist() == np.argsort(words, kind="stable").tolist()
        assert order_of_hashes(words.view(np.int64)).tolist() == order_of_hashes(words).tolist()


def test_many_hashes_among_which_first_halves_meet() -> None:
    draw = np.random.default_rng(3)
    words = draw.integers(0, 2**64, 300_000, np.uint64)
    words[::7] = (words[::7] & np.uint64(0xFFFFFFFF00000000)) | np.uint64(5)
    words[1::7] = words[::7][: len(words[1::7])] + np.uint64(1)
    assert np.array_equal(order_of_hashes(words), np.argsort(words, kind="stable"))
