"""Public: tables of items and users."""

from shortlist.training.data.entities import read_items, read_users

__all__ = ["read_items", "read_users"]
