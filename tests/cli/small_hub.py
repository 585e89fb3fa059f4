"""A hub of one data set, as far as ``datasets`` asks: the same requests and answers as the large one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "a" * 40


def _handler(name: str, files: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    def entry(path: str) -> dict[str, object]:
        return {"type": "file", "path": path, "size": len(files[path]), "oid": hashlib.sha1(files[path]).hexdigest()}

    def listed(folder: str) -> list[dict[str, object]]:
        inside = [path for path in files if path.startswith(folder)]
        direct = [entry(path) for path in inside if "/" not in path[len(folder) :].lstrip("/")]
        folders = {path.split("/", maxsplit=1)[0] for path in inside if not folder and "/" in path}
        return [*direct, *({"type": "directory", "path": path, "oid": path} for path in sorted(folders))]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keeps standard error free."""

        def _answer(self, body: bytes, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/datasets/{name}/tree/{REVISION}"):
                folder = path.removeprefix(f"/api/datasets/{name}/tree/{REVISION}").strip("/")
                self._answer(json.dumps(listed(folder)).encode(), Content_Type="application/json")
            elif path in (f"/api/datasets/{name}", f"/api/datasets/{name}/revision/{REVISION}"):
                about = {"_id": "1", "id": name, "sha": REVISION, "private": False, "gated": False, "disabled": False}
                about |= {"downloads": 0, "likes": 0, "tags": [], "siblings": [{"rfilename": path} for path in files]}
                self._answer(json.dumps(about).encode(), Content_Type="application/json")
            elif path.startswith(f"/datasets/{name}/resolve/") and path.split("/", maxsplit=6)[6] in files:
                body = files[path.split("/", maxsplit=6)[6]]
                self._answer(body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=REVISION)
            else:
                code = "EntryNotFound" if f"/{name}/" in path else "RepoNotFound"
                self._answer(b"{}", 404, X_Error_Code=code)

        do_HEAD = do_GET

    return Handler


@contextmanager
def serve(name: str, files: dict[str, bytes]) -> Iterator[str]:
    """Serves a data set, and gives the address of the hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(name, files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
