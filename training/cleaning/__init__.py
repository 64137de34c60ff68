"""Drop events that cannot be right, and say which and why."""
