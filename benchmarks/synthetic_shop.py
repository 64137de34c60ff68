"""Write a synthetic shop: an item table of 12 columns, users, and events with dirt in them.

Users like a few categories, a price level and a style; items have all three, seen in their price,
tags, title (one in four Chinese or with emoji) and description; some items follow others; new
items keep coming. So there is something to learn from histories, from user features and from
content. About 2 % of the events are broken on purpose, for `shortlist clean` to find.

    python benchmarks/synthetic_shop.py build/shop --users 100000 --items 50000 --events 5000000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl

END = 1_767_225_600  # 2026-01-01 UTC: the shop's last second
DAYS = 730
N_CANDIDATES = 6
KINDS = np.array(["view", "click", "purchase", "rating", "skip"])
STYLES = ["minimal", "vintage", "outdoor", "playful", "luxury", "sporty", "rustic", "tech"]
STYLES_ZH = ["极简", "复古", "户外", "童趣", "奢华", "运动", "田园", "科技"]
STYLE_WORDS = [
    "clean lines and quiet colours",
    "a worn look and brass details",
    "made for rain, mud and long trails",
    "bright shapes that make children laugh",
    "hand-finished, in a gift box",
    "light, breathable, fast-drying",
    "oak, linen and a warm touch",
    "charges by USB-C and talks to your phone",
]
NOUNS = ["Lamp", "Kettle", "Jacket", "Tent", "Sofa", "Mug", "Backpack", "Watch", "Desk", "Shoes",
         "Speaker", "Blanket"]  # fmt: skip
NOUNS_ZH = [
    "台灯",
    "水壶",
    "夹克",
    "帐篷",
    "沙发",
    "马克杯",
    "背包",
    "手表",
    "书桌",
    "鞋",
    "音箱",
    "毯子",
]
EMOJI = ["💡", "🫖", "🧥", "⛺", "🛋️", "☕", "🎒", "⌚", "🪑", "👟", "🔊", "🧶"]
COLOURS = ["black", "white", "red", "green", "blue", "sand", "桜色", None]
COUNTRIES = ["DE", "FR", "US", "CN", "JP", "BR", "IN", None]


def zipf(n: int, power: float) -> np.ndarray:
    weight = np.arange(1, n + 1) ** -power
    return weight / weight.sum()


def draw(rng: np.random.Generator, p: np.ndarray, size: int | tuple[int, ...]) -> np.ndarray:
    """Draw numbers with the probabilities p; faster than Generator.choice."""
    return np.searchsorted(np.cumsum(p), rng.random(size), side="right").clip(0, len(p) - 1)


def make_items(rng: np.random.Generator, n: int) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    n_categories = max(12, min(240, n // 50))
    category = draw(rng, zipf(n_categories, 0.7), n)
    noun = category % len(NOUNS)
    brand = (category * 7 + draw(rng, zipf(30, 0.8), n)) % max(20, n_categories * 2)
    level = np.clip(np.round(brand % 4 + rng.normal(0, 0.6, n)), 0, 3).astype(np.int64)
    style = (brand // 4 + (rng.random(n) < 0.4) * rng.integers(0, 8, n)) % 8
    price = np.round(np.exp(2.0 + noun % 5 * 0.5 + level * 0.7 + rng.normal(0, 0.15, n)), 2)
    # Four items in five were there at the start; the rest arrive over the two years.
    released = (
        END
        - DAYS * 86_400
        + np.where(rng.random(n) < 0.8, -rng.integers(0, 400, n), rng.integers(0, DAYS, n)) * 86_400
    )
    number = pl.int_range(n, eager=True)
    word = {k: pl.Series(np.array(v, object)[i]) for k, v, i in (
        ("style", STYLES, style), ("style_zh", STYLES_ZH, style), ("says", STYLE_WORDS, style),
        ("noun", NOUNS, noun), ("noun_zh", NOUNS_ZH, noun), ("emoji", EMOJI, noun))}  # fmt: skip
    word |= {"brand": pl.format("Brand {}", pl.lit(pl.Series(brand))), "n": number}
    word["brand"] = pl.select(word["brand"]).to_series()
    language = rng.choice(4, n, p=[0.75, 0.15, 0.08, 0.02])
    titles = pl.DataFrame(word).select(
        pl.format("{} {} {} {}", "brand", "style", "noun", "n").alias("en"),
        pl.format("{}{}{} {}", "brand", "style_zh", "noun_zh", "n").alias("zh"),
        pl.format("{} {} {}", "emoji", "noun", "n").alias("emoji"),
        pl.format("{}, {}. {} no. {}", "noun", "says", "brand", "n").alias("description"),
    )

    def with_nulls(values: pl.Series, share: float) -> pl.Series:
        return pl.select(
            pl.when(pl.lit(pl.Series(rng.random(n) >= share))).then(pl.lit(values))
        ).to_series()

    table = pl.DataFrame(
        {
            "item_id": pl.select(pl.format("sku-{}", number)).to_series(),
            "title": pl.select(
                pl.when(pl.lit(pl.Series(language == 0))).then(titles["en"])
                .when(pl.lit(pl.Series(language == 1))).then(titles["zh"])
                .when(pl.lit(pl.Series(language == 2))).then(titles["emoji"])
                .otherwise(pl.lit(""))
            ).to_series(),
            "description": with_nulls(titles["description"], 0.1),
            "brand": with_nulls(word["brand"], 0.03),
            "category": pl.select(
                pl.format("{}/{}", word["noun"], pl.Series(category))
            ).to_series(),
            "tags": with_nulls(
                pl.DataFrame({"a": word["style"], "b": word["noun"]})
                .select(pl.concat_list("a", "b")).to_series(), 0.05),
            "price": with_nulls(pl.Series(price), 0.02),
            "in_stock": rng.random(n) < 0.9,
            "released": with_nulls(
                pl.from_epoch(pl.Series(released)).dt.strftime("%Y-%m-%d"), 0.02),
            "colour": pl.Series(np.array(COLOURS, object)[rng.integers(0, 8, n)].tolist()),
            "weight_grams": with_nulls(
                pl.Series(np.round(np.exp(rng.normal(6, 1, n)))), 0.3),
            "supplier": with_nulls(
                pl.select(pl.format("S{}", pl.Series(brand % 50))).to_series(), 0.01),
        }
    )  # fmt: skip
    return table, {
        "category": category, "level": level, "style": style, "released": released
    }  # fmt: skip


def make_users(rng: np.random.Generator, n: int, n_categories: int) -> tuple[pl.DataFrame, dict]:
    taste = {
        "favourites": draw(rng, zipf(n_categories, 0.5), (n, 3)),
        "level": rng.integers(0, 4, n),
        "style": rng.integers(0, 8, n),
    }
    table = pl.DataFrame(
        {
            "user_id": pl.select(pl.format("u{}", pl.int_range(n, eager=True))).to_series(),
            # Age and segment tell something about the price level and the style.
            "age": np.clip(20 + taste["level"] * 12 + rng.normal(0, 6, n), 16, 95).round(),
            "segment": pl.Series(
                np.array([*STYLES, None], object)[
                    np.where(rng.random(n) < 0.7, taste["style"], rng.integers(0, 9, n))
                ].tolist()
            ),
            "country": pl.Series(np.array(COUNTRIES, object)[rng.integers(0, 8, n)].tolist()),
        }
    )
    return table, taste


def make_events(
    rng: np.random.Generator, n: int, items: dict[str, np.ndarray], taste: dict[str, np.ndarray]
) -> pl.DataFrame:
    n_users, n_items = len(taste["level"]), len(items["level"])
    activity = rng.lognormal(0, 0.9, n_users)
    users = np.sort(draw(rng, activity / activity.sum(), n))
    start = END - rng.integers(30, DAYS, n_users) * 86_400
    times = start[users] + (rng.random(n) ** 0.8 * (END - start[users])).astype(np.int64)
    order = np.lexsort((times, users))
    times = times[order]
    chosen, liked = choose_items(rng, users, times, items, taste)
    # One event in five follows from the item before it.
    companion = np.arange(n_items)
    by_category = np.argsort(items["category"], kind="stable")
    companion[by_category] = np.roll(by_category, 1)
    follows = (rng.random(n) < 0.2) & np.concatenate([[False], users[1:] == users[:-1]])
    follows[1:] &= ~follows[:-1]
    chosen = np.where(follows, companion[np.roll(chosen, 1)], chosen)
    # The better it fits, the more often it is bought, and the higher it is rated.
    fit, chance = 1 / (1 + np.exp(-(liked + rng.normal(0, 0.7, n)))), rng.random(n)
    is_rated = rng.random(n) < 0.06
    kind = np.select(
        [is_rated, (fit > 0.75) & (chance < 0.2), (fit > 0.5) & (chance < 0.5), fit < 0.15],
        [3, 2, 1, 4],
        0,
    )
    value = np.where(kind == 3, np.clip(np.round(1 + 5 * fit), 1, 5), np.nan).astype(np.float32)
    return pl.DataFrame(
        {
            "user_id": pl.select(pl.format("u{}", pl.Series(users))).to_series(),
            "item_id": pl.select(pl.format("sku-{}", pl.Series(chosen))).to_series(),
            "timestamp": times,
            "kind": pl.Series(KINDS.tolist()).gather(kind),
            "value": pl.Series(value).fill_nan(None),
        }
    )


def choose_items(
    rng: np.random.Generator,
    users: np.ndarray,
    times: np.ndarray,
    items: dict[str, np.ndarray],
    taste: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a few items of a category for each event and take the one the user likes best."""
    by_category = np.argsort(items["category"], kind="stable")  # popular items first in each
    sizes = np.bincount(items["category"])
    starts = np.cumsum(sizes) - sizes
    chosen, liked = np.empty(len(users), np.int64), np.empty(len(users))
    for begin in range(0, len(users), 500_000):
        part = slice(begin, begin + 500_000)
        user, n = users[part], len(users[part])
        favourite = taste["favourites"][user, draw(rng, np.array([0.5, 0.3, 0.2]), n)]
        anything = draw(rng, sizes / sizes.sum(), n)
        category = np.where(rng.random(n) < 0.8, favourite, anything)
        category = np.where(sizes[category] > 0, category, anything)
        place = (rng.random((n, N_CANDIDATES)) ** 2.5 * sizes[category][:, None]).astype(np.int64)
        candidate = by_category[starts[category][:, None] + place]
        affinity = (
            1.5 * (items["style"][candidate] == taste["style"][user][:, None])
            - np.abs(items["level"][candidate] - taste["level"][user][:, None])
        )  # fmt: skip
        is_new = items["released"][candidate] > times[part][:, None]
        score = affinity + rng.gumbel(0, 0.5, affinity.shape) - 100 * is_new
        best = score.argmax(axis=1)[:, None]
        chosen[part] = np.take_along_axis(candidate, best, 1)[:, 0]
        liked[part] = np.take_along_axis(affinity, best, 1)[:, 0]
    return chosen, liked


def add_dirt(rng: np.random.Generator, events: pl.DataFrame) -> pl.DataFrame:
    """Break about 2 % of the events, one way each, and add bots."""
    n = events.height
    draw_of_row = rng.random(n)

    def broken(low: float, high: float, column: str, value: object) -> pl.Expr:
        hit = pl.lit(pl.Series((draw_of_row >= low) & (draw_of_row < high)))
        return pl.when(hit).then(pl.lit(value)).otherwise(pl.col(column))

    events = events.with_columns(broken(0.000, 0.001, "user_id", None).alias("user_id"))
    events = events.with_columns(broken(0.001, 0.002, "item_id", "").alias("item_id"))
    events = events.with_columns(broken(0.002, 0.004, "item_id", "sku-gone").alias("item_id"))
    events = events.with_columns(broken(0.004, 0.005, "timestamp", 0).alias("timestamp"))
    events = events.with_columns(
        broken(0.005, 0.006, "timestamp", 4_102_444_800).alias("timestamp")
    )
    wrong = pl.lit(pl.Series(rng.choice([-1.0, 99.0, np.nan, np.inf], n).astype(np.float32)))
    is_wrong = pl.lit(pl.Series((draw_of_row >= 0.006) & (draw_of_row < 0.007)))
    events = events.with_columns(
        pl.when(is_wrong).then(wrong).otherwise(pl.col("value")).alias("value")
    )
    again = events.filter(pl.Series(draw_of_row > 0.99))  # 1 % exact duplicates
    other = events.filter((pl.col("kind") == "rating") & pl.Series(draw_of_row < 0.1)).with_columns(
        value=6 - pl.col("value")
    )
    size = max(1_500, n // 250)
    bots = pl.DataFrame(
        {
            "user_id": [f"bot{i}" for i in np.repeat(np.arange(5), size)],
            "item_id": pl.select(
                pl.format("sku-{}", pl.Series(np.tile(np.arange(size), 5) % 1000))
            ).to_series(),
            "timestamp": END - 86_400 + np.tile(np.arange(size) % 86_400, 5),
            "kind": "view",
            "value": pl.Series([None] * 5 * size, dtype=pl.Float32),
        }
    )
    return pl.concat([events, again, other, bots])


def write_shop(folder: Path, *, n_users: int, n_items: int, n_events: int, seed: int = 1) -> None:
    """Write events, items and users as Parquet files; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    items, truth = make_items(rng, n_items)
    users, taste = make_users(rng, n_users, int(truth["category"].max()) + 1)
    events = add_dirt(rng, make_events(rng, n_events, truth, taste))
    events = events.sort("timestamp", maintain_order=True)
    events.write_parquet(folder / "events.parquet")
    items.write_parquet(folder / "items.parquet")
    users.write_parquet(folder / "users.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.perf_counter()
    write_shop(
        args.folder, n_users=args.users, n_items=args.items, n_events=args.events, seed=args.seed
    )
    for path in sorted(args.folder.glob("*.parquet")):
        table = pl.scan_parquet(path)
        n_rows = table.select(pl.len()).collect().item()
        print(f"{path}: {n_rows:,} rows, {len(table.collect_schema())} columns")
    print(f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
