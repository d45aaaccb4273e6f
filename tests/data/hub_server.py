"""A small hub of data sets: what ``huggingface_hub`` asks a server for, answered from memory."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Repositories = dict[str, dict[str, bytes]]


@contextmanager
def serving(repositories: Repositories, refused: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """Serve files by repository and path until the context ends.

    Args:
        repositories: the files of each.
        refused: repositories whose files are answered with a status: 401 and 403 of gated ones.

    Yields:
        The server's address, and a list of what was asked for, which grows.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path}")
            status, headers, content = answer(self.path.partition("?")[0], body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    def answer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        is_api = parts[0] == "api"
        _, owner, name, *rest = parts[is_api:] if len(parts) > 3 - (not is_api) else ["", "", ""]
        files = repositories.get(f"{owner}/{name}")
        if files is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if not is_api:  # resolve/COMMIT/PATH
            return resolve(f"{owner}/{name}", files, "/".join(rest[2:]))
        if not rest or rest[0] == "revision":
            info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [], "private": False}
            return reply(info)
        if rest[0] == "tree":
            below = "".join(f"{part}/" for part in rest[2:])
            inside = [file.removeprefix(below) for file in files if file.startswith(below)]
            found = {f"{below}{file.partition('/')[0]}" for file in inside}
            entries = [entry(path, files) for path in sorted(found)]
            return reply(entries) if found else (404, {"X-Error-Code": "EntryNotFound"}, b"")
        wanted = parse_qs(body.decode()).get("paths", [])  # paths-info
        return reply([entry(path, files) for path in wanted if path in files])

    def entry(path: str, files: dict[str, bytes]) -> dict[str, object]:
        content = files.get(path)
        oid = hashlib.sha1(content or path.encode()).hexdigest()
        if content is None:
            return {"type": "directory", "path": path, "oid": oid}
        return {"type": "file", "path": path, "size": len(content), "oid": oid}

    def reply(value: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def resolve(name: str, files: dict[str, bytes], file: str) -> tuple[int, dict[str, str], bytes]:
        if name in refused:
            return refused[name], {"X-Error-Code": "GatedRepo"}, b""
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        digest = hashlib.sha1(files[file]).hexdigest()
        return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, files[file]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
