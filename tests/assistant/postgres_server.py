"""A PostgreSQL server of the tests' own: in a temporary folder, reached by a socket in it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


class PostgresServer:
    """Starts and stops a server. Root cannot run one, so another user of the system does."""

    def __init__(self) -> None:
        self.programs = _programs()
        # Not pytest's folder: its parents are closed to other users.
        self.folder = Path(tempfile.mkdtemp(prefix="gpg"))
        self.user: str | None = None
        if os.geteuid() == 0:
            self.user = "postgres" if _exists("postgres") else "nobody"
            shutil.chown(self.folder, self.user)
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "glass", "--auth=trust", "--no-sync", "-E", "UTF8",
                  "--locale=C")  # fmt: skip
        self.databases = 0

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c max_connections=60"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """At once, as a power cut would; what was committed stays."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """Stops it where it runs; its folder goes."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty database."""
        self.databases += 1
        name = f"t{self.databases}"
        self._run("createdb", "-h", str(self.folder), "-U", "glass", name)
        return f"postgresql://glass@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([self.programs / program, *arguments], user=self.user, cwd="/", text=True, timeout=120,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == 0, f"{program} failed with {done.returncode}"


def _programs() -> Path:
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "createdb", "postgres")):
            return folder
    pytest.skip("needs PostgreSQL's server (in Debian: apt-get install postgresql)")


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
