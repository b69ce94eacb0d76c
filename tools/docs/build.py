"""`make docs`: the pages of both languages as a site that asks no other host for anything, in `site/`.

    python tools/docs/build.py [FOLDER]

Each language is built by itself, so that its words and its search are in that language; the first page leads to one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stage import LANGUAGES, BrokenLinkError, Site

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIRST_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>glassgpt</title>
<script>location.replace((navigator.language || "").startsWith("zh") ? "zh/index.html" : "en/index.html")</script>
<p><a href="en/index.html">English</a> · <a href="zh/index.html" lang="zh-CN">中文</a></p>
</html>
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site", help="where the site goes (site/)")
    folder = parser.parse_args().folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "en").is_dir():
        print(f"{folder} is not empty and no site: name another folder", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as work:
        try:
            failed = build(Site(ROOT), Path(work))
        except BrokenLinkError as error:
            print(error, file=sys.stderr)
            return 1
        if failed:
            print(f"the site was not made: see the warnings above ({', '.join(failed)})", file=sys.stderr)
            return 1
        shutil.rmtree(folder, ignore_errors=True)
        for language in LANGUAGES:
            shutil.copytree(Path(work) / "html" / language, folder / language)
    (folder / "index.html").write_text(FIRST_PAGE, encoding="utf-8")
    print(f"open {folder / 'index.html'}")
    return 0


def build(site: Site, work: Path) -> list[str]:
    """Builds both languages at once; gives back those that failed. A warning is a failure."""
    both = sorted(set(site.names["en"].values()) & set(site.names["zh"].values()))
    running = {}
    for language in LANGUAGES:
        site.stage(language, work / language)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", str(HERE)]
        command += ["-d", str(work / "doctrees" / language), str(work / language), str(work / "html" / language)]
        told = {"GLASSGPT_DOCS_LANGUAGE": language, "GLASSGPT_DOCS_TRANSLATED": json.dumps(both)}
        running[language] = subprocess.Popen(command, env=os.environ | told | {"PYTHONDONTWRITEBYTECODE": "1"})
    return [language for language, process in running.items() if process.wait()]


if __name__ == "__main__":
    sys.exit(main())
