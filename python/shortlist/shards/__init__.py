"""A catalogue whose rows are split into shards: searched as one, in a process or over many."""

from shortlist.shards.asking import search_shards
from shortlist.shards.folder import ShardRecord, ShardSet, read_set
from shortlist.shards.merging import ShardAnswer, merge
from shortlist.shards.pool import ShardPool
from shortlist.shards.shard import Shard, answer_shard
from shortlist.shards.sharded import ShardedIndex

__all__ = [
    "Shard",
    "ShardAnswer",
    "ShardPool",
    "ShardRecord",
    "ShardSet",
    "ShardedIndex",
    "answer_shard",
    "merge",
    "read_set",
    "search_shards",
]
