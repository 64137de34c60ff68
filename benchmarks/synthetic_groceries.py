"""Write the baskets of a grocery shop: people buy the same things again, each in its own rhythm.

Every user has staples: products of a few categories, each needed again after a time of its own
(milk after days, spices after weeks). On a shopping trip goes into the basket what is used up,
sometimes something new of the user's categories, sometimes what goes with a thing in the basket.
Now and then a staple is replaced for good by another product of its category.

    python benchmarks/synthetic_groceries.py build/groceries.parquet --users 3000 --items 2000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

START = 1_735_689_600  # 2025-01-01 UTC
DAY = 86_400
N_OF_CATEGORY = 20


def make_baskets(
    n_users: int = 3000, n_items: int = 2000, n_days: int = 120, seed: int = 0
) -> pl.DataFrame:
    """Give events (user_id, item_id, timestamp), a row for each product of a basket."""
    rng = np.random.default_rng(seed)
    world = _World(n_items, rng)
    users, items, days = [], [], []
    for user in range(n_users):
        bought, when = _shop(world, n_days, rng)
        users += [user] * len(bought)
        items += bought
        days += when
    seconds = START + (np.array(days) * DAY).astype(np.int64)
    return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": seconds})


class _World:
    """The products: their categories, how popular they are, what goes with what."""

    def __init__(self, n_items: int, rng: np.random.Generator) -> None:
        n_categories = max(2, n_items // N_OF_CATEGORY)
        self.category = np.arange(n_items) % n_categories
        self.members = [np.flatnonzero(self.category == c) for c in range(n_categories)]
        self.popularity = rng.pareto(1.5, n_items) + 0.1
        self.rhythm = rng.lognormal(np.log(9.0), 0.6, n_categories)  # days until used up
        self.partner = rng.integers(n_items, size=n_items)

    def pick(self, categories: np.ndarray, rng: np.random.Generator) -> int:
        members = self.members[int(rng.choice(categories))]
        weight = self.popularity[members]
        return int(rng.choice(members, p=weight / weight.sum()))


def _shop(world: _World, n_days: int, rng: np.random.Generator) -> tuple[list[int], list[float]]:
    n_liked = min(12, len(world.members))
    liked = rng.choice(len(world.members), n_liked, replace=False)
    staples = list({world.pick(liked, rng) for _ in range(rng.integers(8, 20))})
    period = {i: world.rhythm[world.category[i]] * rng.lognormal(0.0, 0.3) for i in staples}
    empty_on = {i: rng.uniform(0.0, period[i]) for i in staples}
    bought, when, day, pause = [], [], rng.uniform(0.0, 4.0), rng.uniform(2.0, 7.0)
    while day < n_days:
        basket: list[int] = []
        for item in [i for i, at in empty_on.items() if at <= day]:
            del empty_on[item]
            chosen = item
            if rng.random() < 0.04:  # for good
                chosen = world.pick(np.array([world.category[item]]), rng)
                period[chosen] = period[item]
            empty_on[chosen] = day + period[chosen] * rng.lognormal(0.0, 0.25)
            basket.append(chosen)
        basket += [world.pick(liked, rng) for _ in range(rng.poisson(0.5))]
        basket += [int(world.partner[i]) for i in basket if rng.random() < 0.05]
        basket = list(dict.fromkeys(basket))
        rng.shuffle(basket)
        bought += basket
        when += [day + k * 1e-4 for k in range(len(basket))]
        day += pause * rng.lognormal(0.0, 0.3)
    return bought, when


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    events = make_baskets(args.users, args.items, args.days, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    events.write_parquet(args.out)
    print(f"{events.height:,} events of {args.users:,} users over {args.items:,} items: {args.out}")


if __name__ == "__main__":
    main()
