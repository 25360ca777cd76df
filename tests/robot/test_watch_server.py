"""The page's server: it reads, answers whom it should, and outlives whoever misbehaves."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.cli import main
from holdfast.errors import ConfigError
from holdfast.robot.view import server as serving
from holdfast.robot.view.server import Server
from holdfast.robot.view.watch import find
from holdfast.robot.view.watched_run import WatchedRun
from tests.helpers.web import logs


@contextmanager
def served(folder, read=False):
    """A server of a run, in this process; if `read`, one that has read the run's settings."""
    run = WatchedRun(folder)
    server = Server(run, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while read and run.about() is None:
            time.sleep(0.01)
        yield server
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path):
    logs.record(tmp_path / "run").close()
    with served(tmp_path / "run", read=True) as one:
        yield one


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class Stream:
    """What a page that listens is told."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.server_address[1]), 20)
        self.socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._lines = self.socket.makefile("rb")

    def __next__(self):
        for line in self._lines:
            if line.startswith(b"data: "):
                return json.loads(line[6:])
        raise AssertionError("the stream ended")

    def close(self):
        self._lines.close()
        self.socket.close()


def test_the_page_loads_nothing_from_elsewhere(server):
    status, headers, body = ask(server, "/")
    text = body.decode()
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert re.findall(r"https?://|src=|@import", text) == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost:8765", 200), ("127.0.0.1", 200), ("[::1]:8765", 200), ("192.168.1.5", 200)),
        *(("evil.example", 403), ("localhost.evil.example:8765", 403), ("", 403), ("[", 403)),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_a_foreign_name_is_refused(server, host, status):
    """A site whose name is made to lead to this computer reads nothing (DNS rebinding)."""
    for path in ("/", "/rows?first=0&last=1", "/events"):
        if path != "/events" or status != 200:
            assert ask(server, path, Host=host)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X"])
def test_nothing_but_get_is_answered(server, method):
    assert ask(server, "/", method)[0] == 501


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../../etc/passwd", 404),
        ("/rows", 400),
        ("/rows?first=a&last=1", 400),
        ("/places?left=0&bottom=0&right=1", 400),
        ("/places?left=0&bottom=0&right=1&top=nan", 400),
        ("/places?left=1&bottom=0&right=1&top=1", 400),
        ("/places?left=0&bottom=0&right=1e300&top=1", 400),
        ("/places?left=0&bottom=0&right=1&top=1", 200),
        ("/rows?first=-5&last=99999999999999999999", 200),
        ("/rows?first=50&last=1", 200),
        ("/rows?" + "a=1&" * 20, 400),
        ("/" + "x" * 70_000, 414),
    ],
)
def test_odd_requests_are_answered(server, path, status):
    assert ask(server, path)[0] == status


def test_a_stream_tells_all_then_what_is_new(tmp_path):
    log = logs.record(tmp_path / "run")
    with served(tmp_path / "run") as server:
        stream = Stream(server)
        message = next(stream)
        while "about" not in message or message["status"]["rows"] < 242:
            message = {**message, **next(stream)}
        assert message["about"]["run"] == "run"
        assert not message["status"]["over"]
        log.event(1.0, "stop", "device_fault", "the battery is empty")
        log.close()
        while not message["status"]["over"]:
            message = next(stream)
        stream.close()


def test_too_many_pages_are_refused_and_closed_ones_make_room(server):
    streams = [Stream(server) for _ in range(serving.MOST_STREAMS)]
    for stream in streams:
        next(stream)
    assert ask(server, "/events")[0] == 503
    assert ask(server, "/")[0] == 200
    for stream in streams:
        stream.close()
    deadline_s = time.monotonic() + 20.0
    while True:  # a closed page is noticed at the next heartbeat
        assert time.monotonic() < deadline_s
        stream = Stream(server)
        if b"200" in stream.socket.recv(15, socket.MSG_PEEK):
            break
        stream.close()
        time.sleep(0.2)
    stream.close()


def test_too_many_connections_are_closed_and_closed_ones_make_room(server):
    """Whoever opens as many as a process may have files would keep the log from being read."""
    address = ("127.0.0.1", server.server_address[1])
    held = []
    for _ in range(serving.MOST_CONNECTIONS + 1):
        held.append(socket.create_connection(address, 20))
        held[-1].sendall(b"GET ")  # slowly
        time.sleep(0.002)
    assert held.pop().recv(1) == b""
    assert threading.active_count() < serving.MOST_CONNECTIONS + 10
    for one in held:
        one.close()
    deadline_s = time.monotonic() + 20.0
    while True:
        assert time.monotonic() < deadline_s
        try:
            assert ask(server, "/")[0] == 200
            break
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.1)


def test_a_page_that_takes_nothing_holds_up_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(serving.Handler, "timeout", 1.0)
    log = logs.record(tmp_path / "run", logs.with_scan(), steps=800)
    with served(tmp_path / "run") as server:
        silent = Stream(server)
        silent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        other = Stream(server)
        message = next(other)
        while message["status"]["rows"] < 1602:
            message = next(other)
        log.close()
        while not message["status"]["over"]:
            message = next(other)
        silent.close()
        other.close()


def test_a_taken_port_and_a_wrong_host_are_named(server, tmp_path, capsys):
    run = str(tmp_path / "run")
    port = str(server.server_address[1])
    assert main(["watch", run, "--port", port]) == 1
    assert f"port {port} (Address already in use)" in capsys.readouterr().err
    assert main(["watch", run, "--port", "70000"]) == 1
    assert "port should be between 0 and 65535" in capsys.readouterr().err
    assert main(["watch", run, "--host", "no.such.host.invalid"]) == 1
    assert "no.such.host.invalid" in capsys.readouterr().err


def test_without_a_log_there_is_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["watch"]) == 1
    assert "runs: should hold the log of a run" in capsys.readouterr().err


def test_the_newest_run_is_watched_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age_s, name in enumerate(("newest", "older", "oldest")):
        log = logs.record(tmp_path / "runs" / name / "log", steps=3)
        log.close()
        os.utime(log.path, (time.time() - 100 * age_s,) * 2)
    assert find(None, live=False) == Path("runs/newest/log")


def test_live_waits_for_a_run_that_has_not_begun(tmp_path):
    folder = tmp_path / "run"
    program = [sys.executable, "-m", "holdfast", "watch", str(folder), "--live", "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"waiting for a log or a training in {folder}\n"
            logs.record(folder).close()
            assert process.stdout.readline().startswith(f"{folder}: http://127.0.0.1:")
        finally:
            process.kill()


def test_no_host_is_no_address():
    with pytest.raises(ConfigError, match="host should be an address to listen at"):
        Server(None, "", 0)
