"""Bringing models here: from a package or the hub into the cache, checked, resumable, one process at a time.

What only a download needs is imported by it: every start of a chat comes through here to find its model.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.core.errors import ConfigError, FetchError, FormatError, NotFoundError, nearest
from glassgpt.core.words import choose_language, say
from glassgpt.formats import verified
from glassgpt.formats.catalog import CATALOG, Entry, HubSource, PackagedFile, entry, is_here, local_path, model_folder
from glassgpt.formats.hub import fetch_from_hub

if TYPE_CHECKING:
    from rich.progress import TaskID

    from glassgpt.formats.packages import Progress

SOURCES = ("auto", "package", "hub")
_HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)
_CHUNK = 1 << 20


def pull(
    name_or_entry: str | Entry,
    *,
    source: str = "auto",
    progress: Progress | None = None,
    language: str | None = None,
) -> Path:
    """Bring a model of the catalog here, unless it is here already.

    Args:
        source: "package", "hub", or "auto": the package first, then the hub; why one failed is told on stderr.
        progress: called with what is fetched, bytes so far and bytes in all; without it a bar on stderr.
        language: of the remarks on stderr, "en" or "zh"; the user's own by default.

    Returns:
        The model's file, or its folder.

    Raises:
        NotFoundError: the catalog has no such name.
        ConfigError: no such source.
        FetchError: no source gave it (with the reason of each), it is damaged, or the disk is full.
    """
    wanted = name_or_entry if isinstance(name_or_entry, Entry) else entry(name_or_entry)
    if source not in SOURCES:
        near = nearest(source, list(SOURCES))
        raise ConfigError(
            "source={source} is not one of {known}",
            hint="Did you mean {near}?" if near else "Usually `auto` is right.",
            source=source,
            known=", ".join(SOURCES),
            near=near,
        )
    if is_here(wanted):
        return local_path(wanted)
    language = language or choose_language()
    with _work_in(model_folder(wanted.name), language) as folder:
        if not is_here(wanted):  # another process may have brought it meanwhile
            _bring(wanted, folder, source, progress, language)
    return local_path(wanted)


def locate(name: str, *, pull_missing: bool) -> Path:
    """Where a model is, by catalog name, path, or hub id "owner/name"; with `pull_missing` it is fetched if need be.

    A catalog name comes first, so that it means the same in every folder; ./NAME is a folder of that name.

    Raises:
        NotFoundError: nothing of that name is known or here.
        FetchError: it could not be fetched.
    """
    if name in CATALOG:
        wanted = CATALOG[name]
        if is_here(wanted) or pull_missing:
            return pull(wanted)
        raise NotFoundError("{name} is not here yet", hint="Fetch it: glassgpt models pull {name}.", name=name)
    path = Path(name)
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # no such user, too long, a NUL: not a path then
        path = path.expanduser()
        if name and path.exists():
            return path
    if not _HUB_ID.fullmatch(name) or path.suffix in (".gguf", ".safetensors"):
        wanted = entry(name)  # raises, with the nearest name
        return pull(wanted)
    folder = model_folder(name)
    if verified.holds(folder, {}):
        return _model_in(folder)
    if not pull_missing:
        raise NotFoundError(
            "{name} is no file or folder, and not fetched from the hub yet", hint="Check the path.", name=name
        )
    return _pull_hub_id(name, folder)


def verify(entry: Entry) -> Path:
    """Hash a model that is here again.

    Raises:
        NotFoundError: it is not here.
        FormatError: a file is missing or differs; the model counts as absent from then on.
    """
    folder = model_folder(entry.name)
    if not verified.known(folder):
        raise NotFoundError("{name} is not here yet", hint="Fetch it: glassgpt models pull {name}.", name=entry.name)
    bad = verified.changed(folder)
    if bad or not is_here(entry):
        verified.forget(folder)
        raise FormatError(
            "{files} of {name} differs from what was fetched",
            hint="Fetch it again: glassgpt models pull {name}.",
            files=", ".join(bad) or entry.filename,
            name=entry.name,
        )
    return local_path(entry)


def _bring(wanted: Entry, folder: Path, source: str, progress: Progress | None, language: str) -> None:
    """Try the sources in turn; told on stderr are the licence's terms and each failure."""
    from glassgpt.formats.space import check_space

    path = folder / wanted.filename
    if wanted.sha256 and path.is_file() and path.stat().st_size == wanted.size:
        if verified.sha256_of(path) == wanted.sha256:  # brought by hand, or the marker was lost
            verified.remember(folder, {wanted.filename: wanted.sha256})
            return
        _note(say("{path} is damaged and will be fetched again", language, path=path))
    _clear_leftovers(folder)
    known = (["package"] if wanted.packages else []) + (["hub"] if wanted.hub else [])
    sources = known if source == "auto" else [source]
    if sources[0] == "package":
        missing = [one for one in wanted.packages if not _has(folder, wanted, one)]
        download = sum({one.requirement: one.wheel_size for one in missing}.values())
        # At the worst moment: all parts, the last wheel, and the file that the parts are joined to.
        needed = sum(one.size for one in missing) + max((one.wheel_size for one in missing), default=0)
        check_space(folder, needed + (wanted.size if len(wanted.packages) > 1 else 0))
    else:
        download = wanted.size
        check_space(folder, wanted.size)
    _note(
        say(
            "Fetching {title}: {count} MB, licence {licence}.",
            language,
            title=wanted.title,
            count=f"{download / 1e6:.0f}",
            licence=wanted.licence,
        )
    )
    if wanted.notice:
        _note(wanted.notice)
        (folder / "NOTICE.txt").write_text(wanted.notice + "\n", encoding="utf-8")
    reasons = []
    for name in sources:
        try:
            files = _FETCHERS[name](wanted, folder, progress)
            break
        except (FetchError, OSError) as error:
            reason = error.message(language) if isinstance(error, FetchError) else (error.strerror or str(error))
            reasons.append(f"{name}: {reason}")
            if name != sources[-1]:
                _note(say("Not fetched from the package ({reason}). Trying the hub.", language, reason=reason))
    else:
        raise FetchError(
            "{name} could not be fetched ({reasons})",
            hint="Check the connection and the mirror settings (pip config list, HF_ENDPOINT), then try again: "
            "what is complete is kept.",
            name=wanted.name,
            reasons="; ".join(reasons),
        )
    verified.remember(folder, files)
    for one in wanted.packages:
        if wanted.notice and one.keep_as in files:
            _note(say("Its terms are kept beside it: {path}", language, path=folder / one.keep_as))


def _from_package(wanted: Entry, folder: Path, progress: Progress | None) -> dict[str, str]:
    """The packaged file; parts that an earlier try brought are not fetched again."""
    from glassgpt.formats.packages import fetch_members

    if not wanted.packages:
        raise FetchError("{name} is not in any package", hint="Use --source hub, or leave it out.", name=wanted.name)
    missing: dict[str, list[tuple[PackagedFile, Path]]] = {}  # by wheel: each is fetched once
    parts: list[Path] = []
    beside: list[Path] = []
    for one in wanted.packages:
        target = folder / _kept_name(wanted, one)
        if not _has(folder, wanted, one):
            missing.setdefault(one.requirement, []).append((one, target))
        (beside if one.keep_as else parts).append(target)
    with _bar(progress) as report:
        for members in missing.values():
            fetch_members(members, report)
    path = folder / wanted.filename
    found = verified.write_whole(path, _chunks(parts)) if len(parts) > 1 else verified.sha256_of(parts[0])
    if len(parts) == 1 and found == wanted.sha256:
        parts[0].replace(path)
    for part in parts:
        part.unlink(missing_ok=True)
    _expect(wanted, path, found)
    return {wanted.filename: found} | {one.name: verified.sha256_of(one) for one in beside}


def _from_hub(wanted: Entry, folder: Path, progress: Progress | None) -> dict[str, str]:
    """The hub's file or files; a hash is compared where the catalog knows one."""
    if wanted.hub is None:
        raise FetchError("{name} is in a package only", hint="Use --source package, or leave it out.", name=wanted.name)
    files = {name: verified.sha256_of(folder / name) for name in fetch_from_hub(wanted.hub, folder, progress)}
    if wanted.sha256:
        _expect(wanted, folder / wanted.filename, files[wanted.filename])
    return files


def _kept_name(wanted: Entry, one: PackagedFile) -> str:
    """The name under which a packaged file waits in the model's folder, or stays there."""
    return one.keep_as or f"{wanted.filename}.part{wanted.packages.index(one)}"


def _has(folder: Path, wanted: Entry, one: PackagedFile) -> bool:
    """Whether an earlier try brought this file; parts are written whole, and joined they are hashed."""
    path = folder / _kept_name(wanted, one)
    return path.is_file() and path.stat().st_size == one.size


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left half done; the folder is held, so nobody works on it."""
    import shutil

    for path in folder.glob(".part-*"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".wheel-*"):
        shutil.rmtree(path, ignore_errors=True)


_FETCHERS = {"package": _from_package, "hub": _from_hub}


def _expect(wanted: Entry, path: Path, found: str) -> None:
    if found != wanted.sha256:
        path.unlink(missing_ok=True)
        raise FetchError(
            "{file} has a SHA-256 that starts with {found}, not {expected}",
            hint="What was fetched is not the model that the catalog names; try again or use another source.",
            file=wanted.filename,
            found=found[:12],
            expected=wanted.sha256[:12],
        )


def _pull_hub_id(name: str, folder: Path) -> Path:
    language = choose_language()
    with _work_in(folder, language):
        if not verified.holds(folder, {}):
            _note(say("Fetching {name} from the hub.", language, name=name))
            try:
                files = fetch_from_hub(HubSource(name), folder, None)
            except FetchError as error:
                raise FetchError(
                    "{name} is no file or folder here, and as a hub id: {reason}",
                    hint="Check the path or the name; HF_ENDPOINT names a mirror of the hub.",
                    name=name,
                    reason=error.message(language),
                ) from error
            verified.remember(folder, {one: verified.sha256_of(folder / one) for one in files})
    return _model_in(folder)


def _model_in(folder: Path) -> Path:
    """A folder that holds one GGUF file stands for that file."""
    files = verified.known(folder)
    return folder / files[0] if len(files) == 1 else folder


@contextlib.contextmanager
def _work_in(folder: Path, language: str) -> Iterator[Path]:
    """The folder, made if need be, and held so that no second process fetches into it at the same time."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _note(say("Another process is fetching this model; waiting for it (Ctrl-C stops waiting).", language))
            lock.acquire()
        try:
            yield folder
        finally:
            lock.release()
    except OSError as error:
        raise FetchError(
            "{folder} cannot be written ({reason})",
            hint="Choose another folder with GLASSGPT_CACHE.",
            folder=folder,
            reason=error.strerror or str(error),
        ) from error


@contextlib.contextmanager
def _bar(progress: Progress | None) -> Iterator[Progress]:
    """The caller's own progress, or a bar on stderr, which is silent where stderr is no terminal."""
    if progress is not None:
        yield progress
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with rich.Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield report


def _chunks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
