"""Drop events that cannot be right, and say which and why."""

from shortlist.training.cleaning.clean import clean_events, clean_file

__all__ = ["clean_events", "clean_file"]
