"""Public: data sets in the formats of other tools."""

from shortlist.training.data.formats import read_dataset

__all__ = ["read_dataset"]
