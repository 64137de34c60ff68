"""Errors that callers may want to catch by name."""


class ShortlistError(Exception):
    """Base class of every error that is about data or files rather than about one argument."""


class BundleError(ShortlistError):
    """A bundle or index file is missing, damaged, or not what it says."""


class DataError(ShortlistError, ValueError):
    """User data, a configuration or a requests file does not have the expected form."""
