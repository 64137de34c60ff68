"""Events, items and users, read from files and data sets."""

from shortlist.training.data.datasets import load_dataset
from shortlist.training.data.entities import read_items, read_users
from shortlist.training.data.events import Dataset, read_events
from shortlist.training.data.formats import read_dataset

__all__ = ["Dataset", "load_dataset", "read_dataset", "read_events", "read_items", "read_users"]
