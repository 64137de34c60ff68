"""Every answerer gives the answers of the table, and the exact ones the same ones to the bit."""

import numpy as np
import pytest
from conformance.answerers import ANSWERERS
from conformance.bundles import BUNDLES
from conformance.comparison import assert_answers, assert_same_bits
from conformance.oracle import Oracle
from conformance.reasons import assert_reasons
from conformance.table import CASES, KNOWN_GAPS


def answerers_of(case):
    """The names of those that are capable of what a case needs."""
    return [name for name, answerer in ANSWERERS.items() if case.needs() <= answerer.can]


PAIRS = [(case, name) for case in CASES for name in answerers_of(case)]


def right_ones():
    return [
        pytest.param(case, name, id=f"{case.rule} [{name}]")
        for case, name in PAIRS if (case.rule, name) not in KNOWN_GAPS
    ]  # fmt: skip


@pytest.mark.parametrize(("case", "name"), right_ones())
def test_the_answer_is_what_the_rules_say(case, name, ask, expected_of, world_of):
    answer, expected = ask(case, name), expected_of(case)
    assert_answers(answer, expected, world_of(case.bundle), case, ANSWERERS[name])
    if case.n_reasons:
        assert_reasons(answer, Oracle(world_of(case.bundle), case.changes), case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_exact_answerers_give_the_same_bits(case, ask):
    names = [name for name in answerers_of(case) if ANSWERERS[name].is_exact]
    names = [name for name in names if (case.rule, name) not in KNOWN_GAPS]
    ways = {len(case.requests) > 1 and ANSWERERS[name].is_one_by_one for name in names}
    for way in ways:
        alike = [n for n in names if way == (len(case.requests) > 1 and ANSWERERS[n].is_one_by_one)]
        for name in alike[1:]:
            assert_same_bits(ask(case, alike[0]), ask(case, name))


def test_known_gaps_are_still_gaps(ask, expected_of, world_of):
    for case, name in PAIRS:
        if (case.rule, name) in KNOWN_GAPS:
            with pytest.raises(Exception):  # noqa: B017, PT011 - a wrong answer, or none at all
                test_the_answer_is_what_the_rules_say(case, name, ask, expected_of, world_of)


def test_known_gaps_are_of_the_table():
    assert set(KNOWN_GAPS) <= {(case.rule, name) for case, name in PAIRS}


def test_every_rule_is_in_the_table_once_and_somebody_is_capable_of_it():
    rules = [case.rule for case in CASES]
    assert len(set(rules)) == len(rules)
    assert all(answerers_of(case) for case in CASES)
    assert {case.bundle for case in CASES} == set(BUNDLES)


def test_every_capability_is_one_that_a_case_needs():
    needed = set().union(*(case.needs() for case in CASES))
    assert needed == set().union(*(answerer.can for answerer in ANSWERERS.values()))


def test_a_wrong_answer_is_seen(ask, expected_of, world_of):
    case = next(case for case in CASES if case.bundle == "twins" and case.exclude_seen)
    answer, expected, world = ask(case, "python engine"), expected_of(case), world_of("twins")

    def changed(name, change):
        values = np.array(getattr(answer, name))
        change(values)
        return type(answer)(**{**vars(answer), name: values})

    def swap(values):  # two items of equal scores
        places = np.flatnonzero(np.diff(answer.scores[0]) == 0)[0]
        values[0, [places, places + 1]] = values[0, [places + 1, places]]

    def shift(values):
        values[0] = values[0] + np.float32(1e-4)

    def lose(values):
        values[0] -= 1

    for name, change in (("item_ids", swap), ("scores", shift), ("counts", lose), ("rows", swap)):
        with pytest.raises(AssertionError):
            assert_answers(changed(name, change), expected, world, case, ANSWERERS["c engine"])
    with pytest.raises(AssertionError):
        assert_same_bits(answer, changed("scores", shift))
