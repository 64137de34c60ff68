"""TensorFlow's start-up lines stay away from users, unless they ask for them or something fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from shortlist._quiet import LOG_LEVEL, quiet_start


def write_as_c_does(text):
    os.write(2, text.encode())


def test_what_c_code_prints_is_kept_back(capfd, monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "2")
    with quiet_start():
        write_as_c_does("start-up\n")
    write_as_c_does("after\n")
    assert capfd.readouterr().err == "after\n"


def test_it_is_shown_where_the_start_fails(capfd, monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "2")

    def start():
        with quiet_start():
            write_as_c_does("libcudart.so: no such file\n")
            raise ImportError

    with pytest.raises(ImportError):
        start()
    assert capfd.readouterr().err == "libcudart.so: no such file\n"


def test_it_is_shown_where_the_level_asks_for_it(capfd, monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "0")
    with quiet_start():
        write_as_c_does("start-up\n")
    assert capfd.readouterr().err == "start-up\n"


def run(code):
    return subprocess.run(
        [sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", code],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != LOG_LEVEL},
    )


def test_a_crash_at_the_start_says_where():
    done = run(
        "import os\nfrom shortlist._quiet import quiet_start\nwith quiet_start():\n    os.abort()"
    )
    assert done.returncode < 0
    assert "Fatal Python error: Aborted" in done.stderr


def test_a_process_without_standard_error_starts_too():
    done = run(
        "import os\nfrom shortlist._quiet import quiet_start\nos.close(2)\n"
        "with quiet_start():\n    print('started')"
    )
    assert done.stdout == "started\n"


@pytest.mark.parametrize("place", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_commands_start_tensorflow_quietly_unless_verbose(place, tmp_path):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,x,1\nb,y,2\n")
    command = ["train", "--data", str(tmp_path / "events.csv"), "--set"]
    command += ["model.encoder=nonesuch:Encoder", "--out", str(tmp_path / "x.shortlist")]
    code = "from shortlist.cli import main; main({})"
    lines = run(code.format(command)).stderr.splitlines()
    assert all(line.startswith("shortlist train: ") for line in lines)
    assert "nonesuch" in lines[-1]
    command.insert(place, "--verbose")
    more = run(code.format(command)).stderr.splitlines()
    assert more[-1] == lines[-1]
    assert len(more) > len(lines)


def test_two_threads_leave_standard_error_as_it_was(capfd, monkeypatch):
    monkeypatch.setenv(LOG_LEVEL, "2")
    is_inside, may_end = threading.Event(), threading.Event()

    def first():
        with quiet_start():
            is_inside.set()
            may_end.wait(10)

    def second():
        with quiet_start():
            write_as_c_does("start-up\n")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert is_inside.wait(10)
    threads[1].start()
    time.sleep(0.05)  # the second one would begin inside of the first
    may_end.set()
    for thread in threads:
        thread.join()
    write_as_c_does("after\n")
    assert capfd.readouterr().err == "after\n"
