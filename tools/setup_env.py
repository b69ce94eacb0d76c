"""Makes the `.venv` that every `make` target uses. Standard library only: also for Windows, where make is rare.

    python3 tools/setup_env.py          # Linux, macOS (make setup calls this)
    py -3 tools/setup_env.py            # Windows

Everything is pinned by `constraints.txt`. The one choice is where torch comes from. On Linux the default package
index carries a CUDA build of several GB, so PyTorch's own CPU index is asked first; when it does not answer within
seconds, the default index is taken. `TORCH_INDEX` names another index; set to nothing it means the default index alone.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  (this file parses on older versions, so that they can say so)
    sys.exit(
        "glassgpt needs Python 3.11 or newer, and {} is {}.{}: run `make PYTHON=/path/to/python3.11 setup`".format(
            sys.executable, *sys.version_info[:2]
        )
    )

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 8  # for the index to answer; a download that has begun is never cut off


def main() -> None:
    try:
        make_venv()
        pip("install", "--quiet", pin("pip"), pin("setuptools"))
        install_torch()
        say("installing the other packages")
        # The pinned setuptools builds the package here; an isolated build would fetch an unpinned one.
        pip("install", "--quiet", "--constraint", str(CONSTRAINTS), "--no-build-isolation", "-e", ".[test,lint,docs]")
    except subprocess.CalledProcessError:
        sys.exit("set-up failed, see the lines above; `make setup` tries again where it stopped")
    say(f"ready, with torch {torch_build()}")


def make_venv() -> None:
    """Makes `.venv`, or makes it anew when its Python is gone or too old."""
    try:
        import ensurepip  # noqa: F401  (Debian leaves it out of the bare interpreter)
    except ImportError:
        sys.exit(
            f"{sys.executable} cannot make a virtual environment: on Debian and Ubuntu run "
            "`apt-get install python3-venv`, then try again"
        )
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        usable = subprocess.run([VENV_PYTHON, "-c", check], capture_output=True).returncode == 0
    except OSError:
        usable = False
    if not usable:
        say("making .venv")
        venv.create(VENV, with_pip=True, clear=VENV.exists(), symlinks=os.name != "nt")


def install_torch() -> None:
    """The pinned torch, from the index that `TORCH_INDEX` names, else from the default index."""
    requirement = pin("torch")
    if torch_build(only_version=True).split("+")[0] == requirement.split("==")[1]:
        return
    index = os.environ.get("TORCH_INDEX", CPU_INDEX if sys.platform == "linux" else "").strip()
    if index:
        say(f"asking {index} for {requirement}")
        environ = only_index_environ()
        if answers(index, environ):
            try:
                # --no-deps: this index gives torch alone; what torch needs comes pinned from the default index.
                pip("install", "--no-deps", "--index-url", index, requirement, environ=environ)
                return
            except subprocess.CalledProcessError:
                say(f"{index} answered but did not give {requirement} (see above)")
        say("taking the default index instead; on Linux it may give a CUDA build of several GB")
    pip("install", "--constraint", str(CONSTRAINTS), requirement)


def answers(index: str, environ: dict) -> bool:
    """Whether `index` lists torch within `PROBE_SECONDS`. pip asks, so its proxy and certificates are honoured."""
    command = [VENV_PYTHON, "-m", "pip", "index", "versions", "torch", "--index-url", index]
    command += ["--timeout", str(PROBE_SECONDS // 2), "--retries", "0"]
    try:
        # The limit bounds what pip's own one does not: a slow resolver, and many addresses tried in turn.
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"{index} gave no answer within {PROBE_SECONDS} s")
        return False
    if done.returncode:
        say(f"{index} did not answer with a torch for this Python")
    return done.returncode == 0


def only_index_environ() -> dict:
    """The environment in which pip sees no source of packages but the one it is told, with its connection settings.

    Without this an `extra-index-url` or `find-links` setting would answer in the place of the index that is asked.
    """
    listed = subprocess.run([VENV_PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    settings = dict(re.findall(r"^[\w:]+\.(proxy|cert|client-cert|trusted-host|user-agent)='(.*)'$", listed, re.M))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environ |= {"PIP_" + name.upper().replace("-", "_"): value for name, value in settings.items()}
    return environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def torch_build(only_version: bool = False) -> str:
    """What torch is installed, as "2.13.0+cpu (CPU)"; "" when there is none."""
    code = "from importlib.metadata import version; print(version('torch'))"
    if not only_version:
        code = (
            "import torch; v = torch.version; gpu = f'CUDA {v.cuda}' if v.cuda else 'ROCm' if v.hip else '';"
            "gpu = gpu or ('CPU and MPS' if torch.backends.mps.is_built() else 'CPU');"
            "print(f'{torch.__version__} ({gpu})')"
        )
    # Not started in the repository: an empty folder keeps anything here from being imported by mistake.
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run([VENV_PYTHON, "-c", code], capture_output=True, text=True, cwd=empty)
    if done.returncode and not only_version:
        sys.exit(f"torch is installed but cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def pin(package: str) -> str:
    """The line of `constraints.txt` that pins `package`, as "name==version"."""
    found = re.search(rf"^{package}==[\w.]+", CONSTRAINTS.read_text(encoding="utf-8"), re.M)
    return found[0] if found else sys.exit(f"constraints.txt does not pin {package}")


def pip(*arguments: str, environ: dict | None = None) -> None:
    command = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env=environ)


def say(line: str) -> None:
    print(f"set-up: {line}", flush=True)


if __name__ == "__main__":
    main()
