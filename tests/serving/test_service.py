"""The web service of examples/, in real servers: answers, events, a new bundle, a clean end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import shortlist

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKERS = ("--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker")
SERVERS = {
    "uvicorn": ["uvicorn", "--port"],
    "gunicorn": ["gunicorn", *WORKERS, "-b"],
    "gunicorn --preload": ["gunicorn", "--preload", *WORKERS, "-b"],
}


def call(url, body=None, **query):
    """Return the answer of the service as an object."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}?{urllib.parse.urlencode(query, doseq=True)}",
        data,
        {"Content-Type": "application/json", "Connection": "close"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_until(condition, seconds=60):
    """Ask again until the condition holds; a server that has not started refuses connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds} s")


def expected(bundle, request):
    """Return the ids that the bundle answers with in this process."""
    with shortlist.load(bundle, n_threads=1) as engine:
        return engine.recommend([request], top_n=5).item_ids[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_hundred_preloaded_services_end_well(
    text_world, make_tiny_bundle, tmp_path, monkeypatch, n_threads
):
    monkeypatch.setenv("N_THREADS", str(n_threads))
    for number in range(100):
        (folder := tmp_path / str(number)).mkdir()
        test_a_web_service_answers_logs_and_follows_its_bundle(
            text_world, make_tiny_bundle, folder, "gunicorn --preload"
        )


@pytest.mark.parametrize("server", SERVERS)
def test_a_web_service_answers_logs_and_follows_its_bundle(
    text_world, make_tiny_bundle, tmp_path, server
):
    live, log = tmp_path / "live.shortlist", tmp_path / "feedback.log"
    shutil.copytree(text_world.path, live)
    following = make_tiny_bundle(
        tmp_path / "next.shortlist", "string", sign=-1, created="2031-01-01T00:00:00Z"
    ).path
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, *options = SERVERS[server]
    address = str(port) if program == "uvicorn" else f"127.0.0.1:{port}"
    argv = [sys.executable, "-m", program, *options, address, "service:app"]
    environment = os.environ | {
        "BUNDLE": str(live), "FEEDBACK_LOG": str(log), "CHECK_SECONDS": "0.1",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "output").open("w") as output:
        service = subprocess.Popen(
            argv, cwd=EXAMPLES, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: call(f"{url}/health")["status"] == "ok")
        for request in ({"user_id": "é5"}, {"history": ["é1", "é2"]}, {}):
            answer = call(f"{url}/recommend", top_n=5, **request)
            assert answer["item_ids"] == expected(live, request)
        with pytest.raises(urllib.error.HTTPError, match="422"):
            call(f"{url}/recommend", top_n=0)
        event = {"user_id": "é5", "item_id": "é7", "kind": "click", "key": "1"}
        for _ in range(2):  # the second one is known
            call(f"{url}/events", event)
        live.rename(tmp_path / "before.shortlist")
        following.rename(live)
        ids = expected(live, {"user_id": "é5"})
        assert ids != expected(tmp_path / "before.shortlist", {"user_id": "é5"})
        agreed = [0]  # answers in a row from the new bundle, whichever worker gave them

        def all_follow():
            answer = call(f"{url}/recommend", top_n=5, user_id="é5")["item_ids"]
            agreed[0] = agreed[0] + 1 if answer == ids else 0
            return agreed[0] == 20

        wait_until(all_follow)
        assert call(f"{url}/health")["bundle"] == "2031-01-01T00:00:00Z"
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)
    text = (tmp_path / "output").read_text()
    assert "Traceback" not in text
    assert service.returncode == (-signal.SIGTERM if program == "uvicorn" else 0), text
    with shortlist.FeedbackLog(log) as stored:
        assert stored.read().to_pydict()["item_id"] == ["é7"]
