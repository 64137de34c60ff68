"""A bundle's graphs, opened when first needed and checked against its manifest."""

import threading
from functools import partial
from typing import Any

from shortlist._background import in_background
from shortlist._manifest import problem
from shortlist._sessions import may_give_way, nodes_by_provider, open_session, provider_of
from shortlist.bundle import Bundle
from shortlist.errors import ShortlistError
from shortlist.requests import RequestSchema

_ONNX_TYPES = {"int64": "tensor(int64)", "string": "tensor(string)", "float32": "tensor(float)"}


class Graphs:
    """ONNX Runtime sessions of one bundle, all on the same device.

    Parameters
    ----------
    bundle : Bundle
    device : {"auto", "cpu", "cuda", "tensorrt"}
    n_threads : int
        Of each session; 0 = all cores.
    under_load : bool
        Requests are being answered meanwhile: open sessions in the background, where that may be,
        until `begin_to_serve`.
    """

    def __init__(
        self, bundle: Bundle, device: str, n_threads: int, *, under_load: bool = False
    ) -> None:
        self._bundle = bundle
        self._in_background = under_load and may_give_way(device, n_threads)
        self._device = device
        self._n_threads = n_threads
        self._lock = threading.Lock()
        self._sessions: dict[str, Any] = {}
        self._is_closed = False

    def session(self, name: str) -> Any:
        """Return the session of NAME.onnx."""
        with self._lock:
            session = self._sessions.get(name)
            if session is None and self._is_closed:  # the bundle's files may be gone by now
                raise ShortlistError("engine: it was closed while this call was under way")
            if session is None:
                session = self._sessions[name] = self._open_session(name)
            return session

    def begin_to_serve(self) -> None:
        """Open what is still to be opened as fast as can be: callers wait for it from now on."""
        self._in_background = False

    def with_cuda_graphs(self, name: str) -> Any:
        """Open NAME.onnx anew, its runs captured as CUDA graphs; BundleError if it cannot be."""
        session = self._open_session(name, cuda_graph=True)
        with self._lock:
            self._sessions[name] = session
        return session

    def _open_session(self, name: str, *, cuda_graph: bool = False) -> Any:
        open_it = partial(
            open_session,
            self._bundle.file(f"{name}.onnx"),
            name=f"{self._bundle.name}/{name}.onnx",
            device=self._device,
            n_threads=self._n_threads,
            cuda_graph=cuda_graph,
        )
        return in_background(open_it) if self._in_background else open_it()

    def encoder(self, side: str, ids: str, schema: RequestSchema) -> Any:
        """Return the session of the user or item encoder; its inputs and output must fit.

        Parameters
        ----------
        side : {"user", "item"}
        ids : str
            The input that takes item ids, `history` or `item_id`.
        schema : RequestSchema
            Its features are the other inputs.

        Raises
        ------
        BundleError
            Inputs or output are not what the manifest says.
        """
        session = self.session(f"{side}_encoder")
        manifest, output = self._bundle.manifest, f"{side}_embedding"
        expected = {ids: _ONNX_TYPES[manifest["item_id_dtype"]]}
        events = {"history_kinds": "tensor(string)", "history_ages": "tensor(float)"}
        expected |= {name: events[name] for name in schema.event_columns}
        expected |= {name: _ONNX_TYPES[f.dtype] for name, f in schema.features.items()}
        found = {value.name: value.type for value in session.get_inputs()}
        where = f"{self._bundle.name}/{side}_encoder.onnx"
        if found != expected:
            raise problem(where, f"the manifest's inputs {expected}", f"{found}")
        if ids == "history":
            optional = {v.name: v.type for v in session.get_overridable_initializers()}
            if optional.get("history_rows") != "tensor(int64)":
                wanted = "an optional input history_rows tensor(int64)"
                raise problem(where, wanted, f"{optional}; export the run again")
        shapes = {value.name: list(value.shape) for value in session.get_outputs()}
        if list(shapes) != [output] or shapes[output][1:] != [manifest["dim"]]:
            raise problem(where, f"one output {output} (batch, {manifest['dim']})", f"{shapes}")
        return session

    def names(self) -> list[str]:
        """Return the names of the graphs that are open."""
        with self._lock:
            return list(self._sessions)

    def providers(self) -> dict[str, str]:
        """Say which ONNX Runtime provider runs (most of) each graph that is open."""
        with self._lock:
            return {name: provider_of(session) for name, session in self._sessions.items()}

    def nodes(self) -> dict[str, dict[str, int]]:
        """Say how many nodes of each open graph each provider runs; {} where ORT cannot tell."""
        with self._lock:
            return {name: nodes_by_provider(session) for name, session in self._sessions.items()}

    def close(self) -> None:
        """Let go of all sessions, and open no other."""
        with self._lock:
            self._is_closed = True
            self._sessions = {}
