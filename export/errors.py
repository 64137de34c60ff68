"""The one error of export."""

from shortlist.errors import ShortlistError


class ExportError(ShortlistError):
    """A trained model that cannot become a bundle; the message says which part and why."""
