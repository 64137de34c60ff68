"""Names of the types that the training and the export pass around."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.int64]  # item rows, counts, row splits
Tensor: TypeAlias = Any  # of TensorFlow, which has no types of its own
Requests: TypeAlias = dict[str, Any]  # columns by name, as `Engine.recommend` takes them
