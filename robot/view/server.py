"""The HTTP server of the page: one page, its data, and a stream of what is new. It only reads.

No answer depends on anything but what is watched, and no request changes anything.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import socket
import threading
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from holdfast.errors import ConfigError
from holdfast.robot.view.watched import Watched

POLL_S = 0.02
"""Time between two looks at the size of what is watched."""

MOST_STREAMS = 16
"""Pages that may be open at one time."""

MOST_CONNECTIONS = 128
"""Connections that may be open at one time, far below the files that a process may open: who opens
more should not keep the viewer from reading what it watches."""

SEND_LIMIT_S = 10.0
"""A page that takes nothing for so long is given up."""

_FOLDER = Path(__file__).parent


def page(content: Path) -> tuple[bytes, str]:
    """Return a page, self-contained, and its Content-Security-Policy.

    Args:
        content: HTML file with the part of the page that no other has; its script lies beside it.
    """
    style = (_FOLDER / "watch.css").read_text("utf-8")
    scripts = (_FOLDER / "draw.js", _FOLDER / "page.js", content.with_suffix(".js"))
    script = "".join(each.read_text("utf-8") for each in scripts)
    text = (_FOLDER / "page.html").read_text("utf-8")
    text = text.replace("<!--CONTENT-->\n", content.read_text("utf-8"))
    text = text.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class Server(ThreadingHTTPServer):
    """Serves one page.

    Args:
        watched: the run or the training that the page shows.
        host, port: where it listens; port 0: any that is free.

    Raises:
        ConfigError: nothing can listen there.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, watched: Watched, host: str, port: int) -> None:
        if not host:
            raise ConfigError("host should be an address to listen at, as 127.0.0.1, received ''")
        if not 0 <= port <= 65535:
            raise ConfigError(f"port should be between 0 and 65535, received {port}")
        self.watched, self.host = watched, host
        self.page, self.policy = page(watched.page)
        self.streams = threading.Semaphore(MOST_STREAMS)
        self.connections = threading.Semaphore(MOST_CONNECTIONS)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family = found[0][0]
            super().__init__((host, port), Handler)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no host has such a name"
            raise ConfigError(
                f"cannot listen at {host}, port {port} ({why}); give another --host or --port"
            ) from None

    @cached_property
    def url(self) -> str:
        """The page's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def run(self) -> None:
        """Follow what is watched, and answer, until KeyboardInterrupt."""
        stop = threading.Event()
        threading.Thread(target=self._follow, args=(stop,), name="follower", daemon=True).start()
        try:
            self.serve_forever()
        finally:
            stop.set()
            self.server_close()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if not self.watched.read():
                stop.wait(POLL_S)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own; of too many, close it."""
        if self.connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a page that was closed while it was answered."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "holdfast", ""
    timeout = SEND_LIMIT_S

    def do_GET(self) -> None:
        """Answer a request; the path says of what."""
        if not self._host_is_ours():
            self._refuse(HTTPStatus.FORBIDDEN, "the page is not served under this host name")
            return
        path, _, query = self.path.partition("?")
        if path == "/":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif path == "/events":
            self._stream()
        else:
            self._answer(path, query)

    def _host_is_ours(self) -> bool:
        """Whether the browser was led here by an address, not by a foreign name.

        A foreign site whose name resolves to this computer could read the page otherwise (DNS
        rebinding). No name can be made to look like an address.
        """
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in ("localhost", self.server.host):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _answer(self, path: str, query: str) -> None:
        try:
            data = self.server.watched.answer(path, parse_qs(query, max_num_fields=8))
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        if data is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        else:
            self._send(_json(data), "application/json")

    def _stream(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
            return
        try:
            self._head(HTTPStatus.OK, "text/event-stream")
            self.end_headers()
            self.close_connection = True
            for message in self.server.watched.messages():
                self.wfile.write(b"data: " + _json(message) + b"\n\n")
        except OSError:  # the page was closed
            pass
        finally:
            self.server.streams.release()

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Security-Policy", self.server.policy),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(f"{why}\n".encode(), "text/plain; charset=utf-8", status)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _json(data: Any) -> bytes:
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
