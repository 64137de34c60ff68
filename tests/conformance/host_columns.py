"""Requests as a host without this package lays them out: columns for the C ABI, tensors for graphs.

docs/plugin.md and docs/c_abi.md say how; nothing of the package reads them here.
"""

import numpy as np
from c_engine import column, lists

INT64_MIN = np.iinfo(np.int64).min
MISSING = {"string": "", "int64": INT64_MIN, "float32": np.nan}
TYPES = {"string": object, "int64": np.int64, "float32": np.float32}


def columns_of(world, requests):
    """The columns that any request has: [(name, type, shape, values)], one value a request.

    Shape is "one", "list", "events" (as long as the history) or a width; values are as given, None
    where there is nothing.
    """
    manifest = world.manifest
    known = [
        ("user_id", manifest["user_id_dtype"], "one"),
        ("history", manifest["item_id_dtype"], "list"),
        ("history_kinds", "string", "events"),
        ("history_ages", "float32", "events"),
        *((f.name, f.id_dtype, shape_of(f)) for f in world.features),
    ]
    return [
        (name, dtype, shape, [request.get(name) for request in requests])
        for name, dtype, shape in known
        if any(name in request for request in requests)
    ]


def shape_of(feature):
    if feature.kind == "vector":
        return feature.width
    return "list" if feature.kind == "multi_categorical" else "one"


def filled(value, missing):
    return missing if value is None else value


def padded_to_history(values, histories, missing):
    """What is told of events; a request that tells nothing has a missing value for each."""
    return [
        [filled(v, missing) for v in (row or [None] * len(history or []))]
        for row, history in zip(values, histories, strict=True)
    ]


def c_columns(world, requests):
    histories = [request.get("history") for request in requests]
    return [c_column(*told, histories) for told in columns_of(world, requests)]


def item_columns(features, contents):
    """The features of items; their ids stand beside them."""
    return [
        c_column(f.name, f.id_dtype, shape_of(f), [content.get(f.name) for content in contents])
        for f in features
    ]


def c_column(name, dtype, shape, values, histories=()):
    missing, kind = MISSING[dtype], TYPES[dtype]
    if shape == "events":
        return lists(name, padded_to_history(values, histories, missing), kind)
    if shape == "list":
        return lists(name, [[filled(v, missing) for v in row or []] for row in values], kind)
    missing = missing if shape == "one" else [np.nan] * shape
    return column(name, np.array([filled(value, missing) for value in values], kind))


def graph_tensors(world, requests):
    """Every input a graph has: histories filled on the left, missing values marked."""
    given = {name: values for name, _, _, values in columns_of(world, requests)}
    manifest, nothing = world.manifest, [None] * len(requests)
    histories = given.get("history", nothing)
    feeds = {"history": to_the_right(histories, manifest["item_id_dtype"])}
    for name in manifest["event_features"]:
        dtype = "string" if name == "history_kinds" else "float32"
        rows = padded_to_history(given.get(name, nothing), histories, MISSING[dtype])
        feeds[name] = to_the_right(rows, dtype)
    for feature in world.features:
        values, dtype = given.get(feature.name, nothing), feature.id_dtype
        missing, shape = MISSING[dtype], shape_of(feature)
        if shape == "list":
            feeds[feature.name] = to_the_right(values, dtype)
        else:
            missing = missing if shape == "one" else [missing] * shape
            filled_in = [filled(value, missing) for value in values]
            feeds[feature.name] = np.array(filled_in, TYPES[dtype])
    return feeds


def to_the_right(rows, dtype):
    """Lists as an array (n, longest), filled on the left; the longest is at least 1."""
    rows = [row or [] for row in rows]
    whole = np.full((len(rows), max([1, *map(len, rows)])), MISSING[dtype], TYPES[dtype])
    for i, row in enumerate(rows):
        if row:
            whole[i, -len(row) :] = [filled(value, MISSING[dtype]) for value in row]
    return whole
