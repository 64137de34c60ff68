"""Requests, items and events in any shape → checked columns."""
