"""Turn raw logs that are too large for one machine into events that `shortlist train` reads.

pip install 'pyspark>=4.1,<5'        # needs Java 17
python spark_events.py --data LOGS --out events --users 0.1 --keep 200
shortlist train --data events --out shop.shortlist

Spark reads the logs (Parquet, CSV or JSON lines; a folder or the address of an object store), keeps
whole users or none, folds repeats of one day into one event, and keeps the newest events of each
user. It writes a folder of Parquet parts with the columns of docs/data.md.
"""

import argparse
import os
import sys

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from pyspark.sql.types import NumericType

DAY = 86_400  # seconds
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
NEEDED = ("user_id", "item_id", "timestamp")
SALT = 20_231  # of the hash that samples users: the same users every time


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder, file or address of the raw logs")
    parser.add_argument("--format", default="parquet", choices=["parquet", "csv", "json"])
    parser.add_argument("--out", required=True, help="folder of the events; must not be there yet")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="user_id, item_id, timestamp, kind or value = its name in the logs",
    )
    parser.add_argument(
        "--users", type=float, default=1.0, help="part of the users to keep, 0 to 1"
    )
    parser.add_argument("--time-unit", default="s", choices=UNITS, help="of times that are numbers")
    parser.add_argument("--keep", type=int, default=200, help="newest events of a user to keep")
    parser.add_argument("--parts", type=int, default=32, help="files to write")
    chosen = parser.parse_args()
    if not 0 < chosen.users <= 1:
        parser.error(f"--users: expected more than 0 and at most 1, got {chosen.users}")
    if chosen.keep < 1 or chosen.parts < 1:
        parser.error("--keep and --parts: expected at least 1")
    return chosen


def named(logs: DataFrame, pairs: list[str], unit: str) -> DataFrame:
    """The five columns of an event, under our names; times in seconds."""
    names = dict.fromkeys(["user_id", "item_id", "timestamp", "kind", "value"])
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if ours not in names or not theirs:
            sys.exit(f"--column {pair}: expected OURS=THEIRS with OURS one of {', '.join(names)}")
        names[ours] = theirs
    missing = [
        f"{ours}={theirs or ours}"
        for ours, theirs in names.items()
        if (theirs or ours) not in logs.columns and (theirs or ours in NEEDED)
    ]
    if missing:
        sys.exit(f"no column for {', '.join(missing)}; the logs have {', '.join(logs.columns)}. "
                 "Fix: --column OURS=THEIRS")  # fmt: skip
    events = logs.select(
        *(f.col(theirs or ours).alias(ours) for ours, theirs in names.items()
          if (theirs or ours) in logs.columns)
    )  # fmt: skip
    when = f.col("timestamp")
    if isinstance(events.schema["timestamp"].dataType, NumericType):
        seconds = f.floor(when / UNITS[unit])
    else:
        seconds = f.unix_timestamp(f.to_timestamp(when))
    events = events.withColumn("timestamp", seconds)
    if "kind" not in events.columns:
        events = events.withColumn("kind", f.lit("event"))
    if "value" not in events.columns:
        events = events.withColumn("value", f.lit(None).cast("float"))
    return events.dropna(subset=list(NEEDED))


def reduced(events: DataFrame, users: float, keep: int) -> DataFrame:
    """A sample of whole users, one event a user, item, kind and day, and the newest of them."""
    if users < 1:
        share = f.pmod(f.xxhash64(f.col("user_id").cast("string"), f.lit(SALT)), f.lit(1_000_000))
        events = events.where(share < int(users * 1_000_000))
    day = f.floor(f.col("timestamp") / DAY).alias("day")
    folded = events.groupBy("user_id", "item_id", "kind", day).agg(
        f.max("timestamp").alias("timestamp"), f.max_by("value", "timestamp").alias("value")
    )
    newest = Window.partitionBy("user_id").orderBy(f.desc("timestamp"), "item_id", "kind")
    ranked = folded.withColumn("rank", f.row_number().over(newest)).where(f.col("rank") <= keep)
    return ranked.select("user_id", "item_id", "timestamp", "kind", "value")


def main() -> None:
    """Read, reduce, write."""
    chosen = options()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.appName("shortlist events")
        .config("spark.sql.session.timeZone", "UTC")  # times without a zone are UTC
        .getOrCreate()
    )
    reader = spark.read.option("header", True).option("inferSchema", True)
    logs = reader.format(chosen.format).load(chosen.data)
    events = reduced(named(logs, chosen.column, chosen.time_unit), chosen.users, chosen.keep)
    ordered = events.repartition(chosen.parts, "user_id").sortWithinPartitions(
        "user_id", "timestamp"
    )
    ordered.write.parquet(chosen.out)
    print(f"{spark.read.parquet(chosen.out).count():,} events in {chosen.out}")
    spark.stop()


if __name__ == "__main__":
    main()
