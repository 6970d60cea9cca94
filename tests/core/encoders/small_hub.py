"""A Hugging Face hub of one folder on this machine, spoken to by the real client."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

SAYS = b'{"error": "These are my words."}'
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Models owner/open (of `folder`), owner/gated (its files are refused); revisions main and v1.

    owner/http-STATUS is refused with that status at once, owner/file-STATUS when a file is asked for.
    """

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if found := re.match(r"/(api/models/)?owner/(http|file)-(\d+)", path):
            api, kind, status = found.groups()
            if kind == "http" or not api:
                return self._send(int(status), SAYS, body, {"X-Error-Message": "These are my words."})
            return self._api(path, body)
        if "owner/portal" in path:
            return self._send(200, b"<html>Sign in</html>", body, {"Content-Type": "text/html"})
        for model in ("owner/open", "owner/gated"):
            if path.startswith(f"/api/models/{model}"):
                return self._api(path, body)
            if path.startswith(f"/{model}/resolve/"):
                return self._file(model, path.rsplit("/", 1)[1], body)
        return self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _api(self, path: str, body: bool) -> None:
        revision = path.rsplit("/revision/", 1)[1] if "/revision/" in path else "main"
        if revision not in ("main", "v1", COMMIT):
            return self._send(404, b"", body, {"X-Error-Code": "RevisionNotFound"})
        files = [{"rfilename": file.name} for file in sorted(self.folder.iterdir())]
        tree = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _sha(file.read_bytes())}
            for file in sorted(self.folder.iterdir())
        ]
        answer = tree if "/tree/" in path else {"id": "owner/open", "sha": COMMIT, "siblings": files}
        return self._send(200, json.dumps(answer).encode(), body, {"Content-Type": "application/json"})

    def _file(self, model: str, name: str, body: bool) -> None:
        if model == "owner/gated":
            return self._send(403, b"", body, {"X-Error-Code": "GatedRepo"})
        data = (self.folder / name).read_bytes()
        return self._send(200, data, body, {"ETag": f'"{_sha(data)}"', "X-Repo-Commit": COMMIT})

    def _send(self, code: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _sha(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths asked for while huggingface_hub speaks to a hub of `folder` and keeps what it gets in `cache`."""
    handler = type("OneHub", (Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        point(f"http://127.0.0.1:{server.server_port}", cache, monkeypatch)
        yield handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def point(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub, which reads its environment on import, use `endpoint` and `cache`."""
    from huggingface_hub import constants

    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
