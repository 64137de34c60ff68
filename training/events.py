"""Public: events, and the data set of events, items and users."""

from shortlist.training.data.events import Dataset, read_events

__all__ = ["Dataset", "read_events"]
