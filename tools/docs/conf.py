"""How Sphinx makes the site of one language; `build.py` runs it and sets GLASSGPT_DOCS_LANGUAGE."""

import os
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

sys.path.insert(0, str(Path(__file__).parent))

language_of_pages = os.environ["GLASSGPT_DOCS_LANGUAGE"]

project = "glassgpt"
author = "the authors of glassgpt"
copyright = ""
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_title = "glassgpt"
language = {"en": "en", "zh": "zh_CN"}[language_of_pages]

root_doc = "index"
extensions = ["myst_parser", "mathml", "chinese_search", "chinese_lines", "switch"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = False  # "$5 and $6" are prices
myst_dmath_allow_space = False
myst_heading_anchors = 6
# `stage.py` writes links to the other language's site with these.
myst_url_schemes = {
    "http": None,
    "https": None,
    "mailto": None,
    "to": {"url": "{{path}}"},
    "at": {"url": "{{path}}#{{fragment}}"},
}

html_theme = "furo"
html_favicon = "../../src/glassgpt/ui/icon.svg"
html_static_path = ["static"]
html_css_files = ["glassgpt.css"]
templates_path = ["templates"]
html_search_language = language_of_pages
html_show_search_summary = False  # a page from disk may not read the others
html_math_renderer = "mathml"
html_use_index = False
html_domain_indices = False
html_permalinks_icon = "#"
highlight_language = "none"  # a bare block is text
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}

lexers["csv"] = TextLexer()  # rows of a file: nothing to colour, and Pygments has no name for them
