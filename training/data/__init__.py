"""Events, items and users, read from files and data sets."""
