"""Weights of encoders: as files, as whole numbers that are added up, and what is made of the sum.

FedAvg: McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data,
AISTATS 2017. FedAdam: Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shortlist.errors import DataError
from shortlist.training.data.arrays import Floats, Rows

if TYPE_CHECKING:
    from shortlist.training.config.sections import FederatedConfig

BITS = 32  # of a number in a message
STEPS = 1 << 22  # of the grid of changes, in 1
SHARE = "share"  # beside the changes: the users that they count as
BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-3  # of FedAdam, as in the paper
_RATES = {"fedavg": 1.0, "fedadam": 0.01}

Arrays = dict[str, npt.NDArray[Any]]
Weights = Mapping[str, npt.NDArray[np.float32]]


def write_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write named arrays as .npz: the same bytes for the same arrays."""
    buffer, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(buffer, **named)
    return buffer.getvalue()


def read_arrays(content: bytes) -> Arrays:
    """Read what `write_arrays` wrote."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def shapes_of(weights: Weights, table: str, rows: Rows | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a message of changes has; of the table named, ``rows`` alone."""
    shapes = {name: tuple(values.shape) for name, values in weights.items()}
    if rows is not None:
        shapes[table] = (len(rows), *shapes[table][1:])
    return {SHARE: (1,), **shapes}


def shared_change(
    before: Weights,
    after: Weights,
    n_users: int,
    n_all: int,
    settings: FederatedConfig,
    where: str,
) -> dict[str, Rows]:
    """Bring a party's change of the weights to the grid, in proportion to its users.

    Parameters
    ----------
    before, after : dict of ndarray
    n_users, n_all : int
        Of the party, and of all parties together.
    settings : FederatedConfig
        Its ``max_share`` and ``clip_norm``.
    where : str
        Whose change it is.

    Returns
    -------
    dict of str to ndarray, int64
        The changes in steps, and the `SHARE` that they count as.

    Raises
    ------
    DataError
        A weight is no number any more.
    """
    counted = min(n_users, max(1, int(settings.max_share * n_all)))
    changes = {name: after[name].astype(np.float64) - before[name] for name in before}
    norm = float(np.sqrt(sum(np.square(change).sum() for change in changes.values())))
    if not np.isfinite(norm):
        raise DataError(
            f"{where}: the training diverged, its weights are no numbers, expected finite ones. "
            "Fix: the coordinator plans with a lower train.learning_rate"
        )
    scale = counted / n_all * min(1.0, settings.clip_norm / max(norm, 1e-30)) * STEPS
    steps = {name: np.rint(change * scale).astype(np.int64) for name, change in changes.items()}
    return {SHARE: np.array([counted], np.int64), **steps}


def mean_change(total: Mapping[str, Rows], n_all: int) -> dict[str, Floats]:
    """Return the mean of the parties' changes of a total, weighted by the users they count as."""
    counted = int(total[SHARE][0])
    if counted < 1:
        raise DataError(
            "parties: got no train events of any, expected some. Fix: check the tables of the "
            "parties, and repeat the round (--repeat)"
        )
    scale = np.float64(n_all / (counted * STEPS))
    return {name: scale * values for name, values in total.items() if name != SHARE}


def next_weights(
    weights: Weights, change: Mapping[str, Floats], moments: Arrays, settings: FederatedConfig
) -> tuple[dict[str, npt.NDArray[np.float32]], Arrays]:
    """Take a step of the coordinator.

    Parameters
    ----------
    weights : dict of ndarray, float32
    change : dict of ndarray, float64
        The mean of the parties.
    moments : dict of ndarray
        What the step before gave; empty for the first.
    settings : FederatedConfig

    Returns
    -------
    weights : dict of ndarray, float32
    moments : dict of ndarray
        Empty with FedAvg, which needs none.
    """
    kind = settings.server_optimizer
    rate = settings.server_learning_rate or _RATES[kind]
    made: dict[str, npt.NDArray[np.float32]] = {}
    kept: Arrays = {}
    for name, values in weights.items():
        step: Floats = change[name]
        if kind == "fedadam":
            first = BETA_1 * moments.get(f"first/{name}", 0.0) + (1.0 - BETA_1) * step
            second = moments.get(f"second/{name}", EPSILON**2)
            second = BETA_2 * second + (1.0 - BETA_2) * np.square(step)
            kept[f"first/{name}"], kept[f"second/{name}"] = first, second
            step = first / (np.sqrt(second) + EPSILON)
        made[name] = (values + rate * step).astype(np.float32)
    return made, kept
