"""What docs/variety.md promises of whole lists, item by item: the rules, not the code."""

import math

import numpy as np


def values_of(item, column):
    value = item.content.get(column)
    return set(value) if isinstance(value, list) else {value} - {None}


class VariedList:
    """A list under caps and quotas while it grows."""

    def __init__(self, case):
        self.case, self.items = case, []

    @property
    def is_full(self):
        return len(self.items) == self.case.top_n

    def fits(self, item):
        if item in self.items:
            return False
        return not any(
            sum(value in values_of(other, column) for other in self.items) >= most
            for column, most in self.case.at_most.items()
            for value in values_of(item, column)
        )

    def fill(self, order, passes, n):
        """Take up to n items of an order that pass and fit."""
        for item in order:
            if n > 0 and not self.is_full and passes(item) and self.fits(item):
                self.items.append(item)
                n -= 1


def varied(case, allowed, order_of):
    """The items of a list, in no order.

    `order_of`: some items, best first: all of them, or the nearest candidates put into
    order by a second stage.
    """
    made, first = VariedList(case), order_of(allowed)
    for quota in case.at_least:

        def passes(item, quota=quota):
            return quota.passes(item.content)

        made.fill(first, passes, quota.least - sum(map(passes, made.items)))
        while not made.is_full and sum(map(passes, made.items)) < quota.least:
            left = [item for item in allowed if passes(item) and made.fits(item)]
            if not left:
                break
            made.fill(order_of(left), passes, quota.least - sum(map(passes, made.items)))
    made.fill(first, lambda _: True, case.top_n)
    while not made.is_full and (left := [item for item in allowed if made.fits(item)]):
        made.fill(order_of(left), lambda _: True, case.top_n)
    return made.items


def diverse(case, scored):
    """The items of a list in the order in which they are chosen; `scored`: (item, score) pairs."""
    made = VariedList(case)
    while not made.is_full and (left := [pair for pair in scored if made.fits(pair[0])]):

        def value(pair):
            item, score = pair
            alike = [float(np.dot(other.vector, item.vector)) for other in made.items]
            return (
                score if not alike else ((1 - case.diversity) * score - case.diversity * max(alike))
            )

        made.items.append(max(left, key=value)[0])
    return made.items


def calibrated(case, scored, shares):
    """The items of a list that comes near to shares, in no order."""
    column, _, strength = case.calibrate
    made = VariedList(case)

    def distance(item):
        listed = [values_of(other, column) for other in [*made.items, item]]
        total = 0.0
        for value, share in shares.items():
            own = sum(1 / len(values) for values in listed if value in values)
            own = (own + (case.top_n - len(listed)) * share) / case.top_n
            total += share * math.log(share / (0.99 * own + 0.01 * share))
        return total

    while not made.is_full and (left := [pair for pair in scored if made.fits(pair[0])]):
        best = max(left, key=lambda pair: (1 - strength) * pair[1] - strength * distance(pair[0]))
        made.items.append(best[0])
    return made.items


def shares_of(items, column):
    """What part each value has in some items; those without values do not count."""
    own = [values for values in (values_of(item, column) for item in items) if values]
    known = sorted(set().union(*own))
    return {
        value: sum(1 / len(values) for values in own if value in values) / len(own)
        for value in known
    }
