"""A number with its noun, for people."""


def counted(n: int, one: str) -> str:
    """Write how many there are of something: the noun is plural unless there is one.

    Examples
    --------
    >>> counted(1, "user"), counted(2_000, "new event")
    ('1 user', '2,000 new events')
    """
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}s"
