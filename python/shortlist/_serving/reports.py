"""What an engine says of itself, as plain values."""

from typing import Any, TypedDict


class TrialReport(TypedDict):
    """What came of a trial so far; see `Engine.start_trial`."""

    bundle: str
    version: int
    share: float
    shadow: bool
    n_requests: int  # in all
    n_candidate: int  # answered by the candidate
    n_errors: int  # of the candidate
    n_dropped: int  # by the shadow
    last_error: str | None
    overlap: float | None  # of the shadow's requests: mean part of the present items it found too


class MemoryReport(TypedDict):
    """Bytes by part: of items as the index says, of users and graphs those of their files.

    `items` are the fields of `IndexMemory`.
    """

    items: dict[str, int]
    users: int
    graphs: int


class GraphReport(TypedDict):
    """Where what runs: by open graph, and how items are found."""

    providers: dict[str, str]
    nodes: dict[str, dict[str, int]]
    search: str
    graph_search: dict[str, Any] | None
    fixed_batches: dict[str, Any] | None
    batching: dict[str, int] | None
    onnxruntime: str


class EngineReport(GraphReport):
    """What `Engine.report` gives."""

    bundle: str
    version: int
    trial: TrialReport | None
    device_asked: str
    n_threads: int
    n_items: int
    n_users: int
    dim: int
    metric: str
    storage: str
    recall: float | None
    memory: MemoryReport
