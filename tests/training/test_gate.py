"""The gate judges two bundles by the newest events, segment by segment."""

import json

import numpy as np
import pytest

from shortlist.training.config.sections import UpdateConfig
from shortlist.training.evaluation.next_events import NextEvents
from shortlist.training.updates.gate import compare


class Fixed:
    """A ranker with one answer for everyone."""

    def __init__(self, *rows):
        self.rows = np.array([*rows, *[-1] * (10 - len(rows))])

    def rank(self, histories, user_ids, top_n, *, exclude_seen=True):
        return np.tile(self.rows, (len(histories), 1))


def asked_of(n_users, target=0):
    rows = np.tile([5, target], n_users)
    users = np.array([f"u{i:03}" for i in range(n_users)])
    targets = np.full(n_users, target)
    places = np.arange(n_users) * 2 + 1
    return NextEvents(users, targets, targets, np.ones(n_users, np.int64), rows, places)


def test_the_gate_refuses_what_is_worse_and_names_the_segment():
    asked = asked_of(40)
    segments = {"all": np.ones(40, np.bool_), "new users": np.arange(40) < 30}
    good, bad = Fixed(0), Fixed(1, 2, 0)
    passed = compare(bad, good, asked, segments, UpdateConfig())
    assert passed.is_passed
    assert passed.segments["all"].difference == pytest.approx(0.5)  # place 3 → place 1
    refused = compare(good, bad, asked, segments, UpdateConfig())
    assert not refused.is_passed
    assert "NDCG@10 falls from 1.0000 to 0.5000" in refused.reasons[0]
    assert any(reason.startswith("new users: worse by 0.5000") for reason in refused.reasons)


def test_the_gate_does_not_judge_by_a_handful_of_users():
    few = {"all": np.ones(5, np.bool_)}
    report = compare(Fixed(1), Fixed(0), asked_of(5), few, UpdateConfig())
    assert not report.is_passed
    assert "of 5 users, too few to judge by" in report.reasons[0]


def test_a_segment_without_users_says_so_and_no_more():
    segments = {"all": np.ones(5, np.bool_), "new items": np.zeros(5, np.bool_)}
    shown = compare(Fixed(1), Fixed(0), asked_of(5), segments, UpdateConfig()).to_dict()["segments"]
    assert shown["new items"] == {"n_users": 0, "is_judged": False}
    assert list(shown["all"]) == [
        "n_users", "champion", "challenger", "difference", "interval", "is_judged"
    ]  # fmt: skip
    assert json.loads(json.dumps(shown)) == shown
