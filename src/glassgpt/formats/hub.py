"""Files from the hub, through its own library: `HF_ENDPOINT`, tokens and offline mode count, and downloads resume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from glassgpt.core.errors import FetchError
from glassgpt.formats.catalog import HubSource

if TYPE_CHECKING:
    from glassgpt.formats.packages import Progress

# Nothing that can carry code: no .bin, .pt, .h5, .msgpack. A chat template is text that is recognised, never run.
_ALLOWED = re.compile(r"[^./\\][^/\\]*\.(safetensors|json|txt|model|jinja)|(LICEN[CS]E|NOTICE)[^/\\]*", re.IGNORECASE)
_GGUF = re.compile(r"[^./\\][^/\\]*\.gguf", re.IGNORECASE)


def fetch_from_hub(source: HubSource, folder: Path, progress: Progress | None) -> list[str]:
    """Bring one file, or a whole model without anything executable, into `folder`; the names of the files.

    `progress` is called after each file; without it the library shows its own bars.

    Raises:
        FetchError: no connection, no such repository, a gated one, no space, or no model in it.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download

        from glassgpt.formats.space import check_space

        sizes, revision = {source.filename: 0}, source.revision
        if not source.filename:
            info = HfApi().model_info(source.repo, revision=source.revision, files_metadata=True)
            sizes = choose({one.rfilename: one.size or 0 for one in info.siblings or []}, source.repo)
            revision = info.sha or source.revision  # all files from one state of the repository
            check_space(folder, sum(sizes.values()))
        done, total = 0, sum(sizes.values())
        for name, size in sizes.items():
            hf_hub_download(source.repo, name, revision=revision, local_dir=folder)
            done += size or (folder / name).stat().st_size
            if progress:
                progress(name, done, total or done)
    except FetchError:
        raise
    except Exception as error:  # the library raises its own, its HTTP client's and the system's kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise FetchError(
            "the hub did not give {repo}: {reason}",
            hint="Check the connection, or name a mirror with HF_ENDPOINT.",
            repo=source.repo,
            reason=lines[0] if lines else type(error).__name__,
        ) from error
    return list(sizes)


def choose(sizes: dict[str, int], repo: str) -> dict[str, int]:
    """Of a repository's files and sizes, those that make up a model which can be read without running anything.

    Raises:
        FetchError: there is no safetensors file, and not exactly one GGUF file.
    """
    chosen = {name: size for name, size in sizes.items() if _ALLOWED.fullmatch(name)}
    if any(name.endswith(".safetensors") for name in chosen):
        return chosen
    ggufs = {name: size for name, size in sizes.items() if _GGUF.fullmatch(name)}
    if len(ggufs) != 1:
        raise FetchError(
            "{repo} has no safetensors weights and {count} .gguf files",
            hint="Download the .gguf file you want and give its path.",
            repo=repo,
            count=len(ggufs),
        )
    return ggufs
