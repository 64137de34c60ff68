"""The networks of the tiny bundles in float64, from raw values: one item, one user at a time.

`tiny_graphs` builds the same networks as ONNX graphs; this is what they are meant to compute.
"""

import math

import numpy as np
from conformance.storage import byte_rows
from tiny_graphs import DECAY, DIM, KIND_GAINS, KINDS, N_LATEST, WEIGHT, followers_of, table
from worlds import N_ITEMS

DAY = 86_400
ITEM_ROWS = table("item_id", N_ITEMS + 1).astype(np.float64)[1:]
BYTE_ROWS = byte_rows(ITEM_ROWS)  # of a compressed bundle; other tables of the tiny ones are small


def item_rows(world):
    return BYTE_ROWS if world.is_compressed else ITEM_ROWS


def user_embedding(world, events, values):
    """The sum of what the events of a history and the user's features say.

    `events`: (item row, kind, seconds before now), oldest first, None where not known; `values`:
    raw, by name.
    """
    total = np.zeros(DIM)
    for row, kind, age in events:
        weight = 1 + (KIND_GAINS[1 + KINDS.index(kind)] if kind in KINDS else 0)
        weight /= 1 + (0 if age is None else max(age - events[-1][2], 0) / DAY)
        total += weight * item_rows(world)[row]
    for feature in world.features:
        total += said(feature, values.get(feature.name))
    return total


def item_embedding(world, item_id, content):
    """What an item's id, if the encoder knows it, and its content say."""
    ids = world.item_ids.tolist()
    total = item_rows(world)[ids.index(item_id)] if item_id in ids else np.zeros(DIM)
    return total + sum(said(f, content.get(f.name)) for f in world.item_features)


def said(feature, value):
    """What one feature's raw value adds to an embedding; nothing where it is not known."""
    weights = table(feature.name, feature.n_codes).astype(np.float64)
    known = feature.vocabulary
    if not is_given(value):
        return weights[-1] if feature.has_own_missing else np.zeros(DIM)
    match feature.kind:
        case "categorical":
            return weights[1 + known.index(value)] if value in known else np.zeros(DIM)
        case "multi_categorical":
            codes = [1 + known.index(tag) for tag in value if tag in known]
            return weights[codes].sum(axis=0)
        case "numeric":
            return np.full(DIM, (value - feature.mean) / feature.std)
        case "text":
            return len(value.split()) * table(feature.name, 2)[1].astype(np.float64)
        case "timestamp":
            days = max(feature.reference - value, 0) / DAY
            return (math.log1p(days) - feature.mean) / feature.std * dense(feature)[0]
        case "vector":
            return np.asarray(value) / np.linalg.norm(value) @ dense(feature)
    raise ValueError(feature.kind)


def dense(feature):
    return table(feature.name, feature.n_columns + 1).astype(np.float64)[1:]


def is_given(value):
    """Missing is None, NaN, "", and a list without anything else."""
    if isinstance(value, list):
        return any(map(is_given, value))
    return not (value is None or value == "" or value != value)


def is_known(feature, value):
    """Whether the encoder learns anything from a value: of categories only what it has seen."""
    if feature.kind == "categorical":
        return value in feature.vocabulary
    if feature.kind == "multi_categorical":
        return any(tag in feature.vocabulary for tag in value or [])
    return is_given(value)


def rerank_score(world, history, code, similarity):
    """The second stage's score of a candidate.

    `history`: item rows, oldest first, cut to the length it looks at; `code`: 1 + the candidate's
    row in the bundle, 0 for an item that came later.
    """
    if world.scorer == "sums":
        return code + sum(row + 1 for row in history) * similarity
    if world.scorer == "thirds":
        return code % 3
    followers, gain = followers_of(N_ITEMS), 0.0
    for age, row in enumerate(reversed(history[-N_LATEST:])):
        shares = dict(followers.get(row, []))
        gain += DECAY**age * shares.get(code - 1, 0)
    return similarity + WEIGHT * gain
