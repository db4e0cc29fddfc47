"""An answer that is kept: for how long, and when it is made anew."""

import pytest

from clinician_dashboard.record.memo import Memo


class Clock:
    """Stands still unless somebody spends time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def answer(self, cost_s):
        self.now += cost_s
        return self.now


@pytest.mark.parametrize(("cost_s", "kept_s"), [(0.1, 2.0), (3.0, 5.0)])
def test_a_dear_answer_is_kept_in_proportion_and_never_for_long(cost_s, kept_s):
    clock = Clock()
    memo = Memo(0.0, times_its_cost=20, clock=clock)
    first = memo.get(lambda: clock.answer(cost_s))
    clock.now += kept_s - 0.001
    assert memo.get(lambda: clock.answer(cost_s)) == first
    clock.now += 0.002
    assert memo.get(lambda: clock.answer(cost_s)) > first


def test_a_cheap_answer_is_made_anew_each_time():
    clock = Clock()
    memo = Memo(0.0, times_its_cost=20, clock=clock)
    assert memo.get(lambda: clock.answer(0.01)) < memo.get(lambda: clock.answer(0.01))


def test_what_is_forgotten_is_made_anew():
    clock = Clock()
    memo = Memo(60.0, clock=clock)
    first = memo.get(lambda: clock.answer(1))
    assert memo.get(lambda: clock.answer(1)) == first
    memo.forget()
    assert memo.get(lambda: clock.answer(1)) > first
