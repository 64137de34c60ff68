"""What the readers of columns say when something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from shortlist.errors import DataError


@contextmanager
def said_of(argument: str) -> Iterator[None]:
    """Name this argument, not `requests`, in the messages of the functions that read requests."""
    try:
        yield
    except (TypeError, DataError) as error:
        raise type(error)(str(error).replace("requests: ", f"{argument}: ", 1)) from error
