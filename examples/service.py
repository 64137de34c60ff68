"""A web service around a bundle: answers, events, health, and new bundles without a restart.

pip install fastapi uvicorn gunicorn uvicorn-worker
cd examples && export BUNDLE=/path/to/shop.shortlist FEEDBACK_LOG=/path/to/feedback.log
uvicorn service:app
gunicorn --preload --workers 2 --worker-class uvicorn_worker.UvicornWorker service:app
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated

import fastapi
import pydantic

import shortlist

BUNDLE = os.environ["BUNDLE"]
LOG = os.environ.get("FEEDBACK_LOG", "feedback.log")
N_THREADS = int(os.environ.get("N_THREADS", "1"))  # of a worker
SECONDS = float(os.environ.get("CHECK_SECONDS", "10"))  # from one look for a new bundle to the next
Id = str  # int where the bundle's ids are integers


def stamp() -> tuple[int, int]:
    """What changes when `shortlist update` puts a new bundle in the old one's place."""
    status = os.stat(BUNDLE)
    return status.st_ino, status.st_mtime_ns


loaded = stamp()
engine = shortlist.load(BUNDLE, n_threads=N_THREADS)  # with --preload once, for all workers


def follow(stop: threading.Event) -> None:
    """Swap to each new bundle; requests are answered meanwhile."""
    current = loaded
    while not stop.wait(SECONDS):
        try:
            if (found := stamp()) != current:
                engine.swap(BUNDLE)
                current = found
        except Exception as error:  # whatever it is, the old bundle goes on answering
            logging.getLogger("uvicorn.error").error("the old bundle stays: %s", error)


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    """Open what a worker has for itself: its log, and the thread that follows the bundle."""
    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(stop,))
    with shortlist.FeedbackLog(LOG) as app.state.log:
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/recommend")
def recommend(
    user_id: Id | None = None,
    history: Annotated[list[Id], fastapi.Query()] = [],  # noqa: B006
    top_n: int = 10,
) -> dict:
    """Answer one request; FastAPI runs each on a thread, and the engine takes calls from all."""
    request: dict = {} if user_id is None else {"user_id": user_id}
    if history:
        request["history"] = history
    try:
        recs = engine.recommend([request], top_n=top_n)
    except (ValueError, TypeError) as error:
        raise fastapi.HTTPException(422, str(error)) from error
    n = int(recs.counts[0])
    ids, scores = recs.item_ids[0, :n].tolist(), recs.scores[0, :n].tolist()
    return {"source": str(recs.source[0]), "item_ids": ids, "scores": scores}


class Event(pydantic.BaseModel):
    """What a user did; `key` makes a second delivery harmless."""

    user_id: Id
    item_id: Id
    kind: str
    key: str | None = None


@app.post("/events", status_code=201)
def add_event(event: Event) -> None:
    """Log it: `shortlist update` learns from it."""
    try:
        app.state.log.append(timestamp=time.time(), **event.model_dump())
    except (ValueError, TypeError) as error:
        raise fastapi.HTTPException(422, str(error)) from error


@app.get("/health")
def health() -> dict:
    """Say that this worker answers, and from which bundle."""
    return {"status": "ok", "bundle": engine.bundle.manifest.created}
