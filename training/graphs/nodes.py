"""A list of ONNX nodes under construction, with names that never clash."""

from typing import Any

import numpy as np
from onnx import helper, numpy_helper


class Nodes:
    """Collect nodes and constants of one feature under names of their own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self._n = 0

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        self._n += 1
        output = f"{self.name}/{op.lower()}_{self._n}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], output, domain=domain, **attributes)
        )
        return output

    def add_many(
        self, op: str, n_outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs; returns their names. Name "" leaves an input out."""
        first = self.add(op, *inputs, domain=domain, **attributes)
        outputs = [first, *(f"{first}_{i}" for i in range(1, n_outputs))]
        self.nodes[-1].output[:] = outputs
        return outputs

    def constant(self, values: Any, dtype: Any) -> str:
        """Append a constant of a NumPy dtype."""
        tensor = numpy_helper.from_array(np.asarray(values, dtype))
        return self.add("Constant", value=tensor)

    def rename_last(self, output: str) -> str:
        """Give the last node's output another name; returns it."""
        self.nodes[-1].output[0] = output
        return output
