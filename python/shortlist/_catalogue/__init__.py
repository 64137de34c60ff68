"""The items as they are now: their table, what may be asked of it, how it changes."""
