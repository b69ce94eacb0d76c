"""Code in colours: classes only, the colours themselves are in `highlight_css`.

Some of Pygments' lexers take time that grows with the square of odd input (thousands of empty lines, say). So only
languages that people ask for are read, only up to a size, and not on when they take too long: then the code is plain.
"""

from __future__ import annotations

import time
from functools import lru_cache
from html import escape

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token

LONGEST = 20_000  # characters of code that are coloured
LONGEST_LINE = 1_000  # in one line, some lexers try again from each character
MOST_SECONDS = 0.3  # of computing; the thread's own time, so that a busy machine draws the same page

# The name that is shown, and the words after ``` that mean it. The first is Pygments' own.
_NAMES = {
    "Python": "python py python3 py3",
    "Python console": "pycon",
    "Shell": "bash sh shell zsh ksh",
    "Terminal": "console shell-session terminal",
    "PowerShell": "powershell ps1 pwsh posh",
    "Batch": "bat batch dosbatch cmd",
    "C": "c h",
    "C++": "cpp c++ cc cxx hpp",
    "C#": "csharp c# cs",
    "Java": "java",
    "Kotlin": "kotlin kt",
    "Scala": "scala",
    "Go": "go golang",
    "Rust": "rust rs",
    "Swift": "swift",
    "Objective-C": "objective-c objc objectivec",
    "JavaScript": "javascript js node mjs cjs",
    "TypeScript": "typescript ts",
    "JSX": "jsx react",
    "TSX": "tsx",
    "HTML": "html htm xhtml",
    "XML": "xml svg xsd rss",
    "CSS": "css",
    "SCSS": "scss",
    "JSON": "json jsonc json5",
    "YAML": "yaml yml",
    "TOML": "toml",
    "INI": "ini cfg conf dosini properties",
    "SQL": "sql sqlite postgresql postgres mysql",
    "PHP": "php",
    "Ruby": "ruby rb",
    "Perl": "perl pl",
    "Lua": "lua",
    "R": "r rlang",
    "Julia": "julia jl",
    "MATLAB": "octave matlab",  # the lexer for MATLAB takes long for empty lines
    "Haskell": "haskell hs",
    "OCaml": "ocaml ml",
    "Elixir": "elixir ex exs",
    "Erlang": "erlang erl",
    "Clojure": "clojure clj",
    "Scheme": "scheme scm",
    "Lisp": "common-lisp lisp cl",
    "F#": "fsharp f#",
    "Dart": "dart",
    "Fortran": "fortran f90",
    "Pascal": "pascal delphi",
    "Visual Basic": "vbnet vb",
    "Assembler": "nasm asm assembly",
    "Makefile": "makefile make mk",
    "CMake": "cmake",
    "Dockerfile": "docker dockerfile",
    "nginx": "nginx",
    "Diff": "diff patch",
    "Markdown": "markdown md",
    "LaTeX": "tex latex",
    "GraphQL": "graphql gql",
    "Protobuf": "protobuf proto",
    "Groovy": "groovy gradle",
    "Zig": "zig",
    "Verilog": "verilog",
    "VHDL": "vhdl",
    "Solidity": "solidity sol",
}
_LANGUAGES = {word: (name, words.split()[0]) for name, words in _NAMES.items() for word in words.split()}

# Kinds of tokens, the more special before the more general, by the class that colours them.
_KINDS = [
    (Token.Comment.Preproc, "p"), (Token.Comment, "c"), (Token.Keyword.Constant, "n"), (Token.Keyword.Type, "t"),
    (Token.Keyword, "k"), (Token.Operator.Word, "k"), (Token.Literal.Number, "n"), (Token.Literal.String, "s"),
    (Token.Name.Function, "f"), (Token.Name.Class, "t"), (Token.Name.Namespace, "t"), (Token.Name.Exception, "t"),
    (Token.Name.Builtin, "b"), (Token.Name.Decorator, "p"), (Token.Name.Tag, "k"), (Token.Name.Attribute, "b"),
    (Token.Name.Variable, "b"), (Token.Name.Constant, "n"), (Token.Generic.Deleted, "d"), (Token.Generic.Inserted, "i"),
    (Token.Generic.Heading, "f"), (Token.Generic.Subheading, "f"), (Token.Generic.Prompt, "c"),
    (Token.Generic.Output, "c"), (Token.Generic.Strong, "f"),
]  # fmt: skip
# The colours of each, in the light and in the dark; tests hold each to 4.5:1 on its ground.
LIGHT = {"": "#1f2328", "c": "#57606a", "k": "#a0221c", "t": "#8a3c00", "s": "#0a4a7a", "n": "#0550ae", "f": "#6639ba",
         "b": "#0b5563", "p": "#7a3e00", "d": "#9b1c1c", "i": "#0f5f2e"}  # fmt: skip
DARK = {"": "#e6edf3", "c": "#9aa4af", "k": "#ff8f87", "t": "#ffb26b", "s": "#a5d6ff", "n": "#8ac4ff", "f": "#d9b8ff",
        "b": "#7fdbe6", "p": "#f0c674", "d": "#ffaaa3", "i": "#8fe3a4"}  # fmt: skip
LIGHT_GROUND, DARK_GROUND = "#f6f8fa", "#161b22"
LIGHT_HEAD, DARK_HEAD = "#e8ecf0", "#22272e"  # behind the language's name
CLASSES = frozenset(f"hl-{kind}" for kind in LIGHT if kind)


def language_name(word: str) -> str | None:
    """The name of the language that `word` after the fence means; None where it is not known here."""
    found = _LANGUAGES.get(word.lower())
    return found[0] if found else None


def highlight(code: str, word: str) -> str | None:
    """Code as HTML in `<span>`s with classes.

    Args:
        code: any text.
        word: what stands after the fence, "python" say, in any case.

    Returns:
        None where the code is to be shown plain: the language is not known, or the code too long or too slow to read.
    """
    found = _LANGUAGES.get(word.lower())
    if found is None or len(code) > LONGEST or max(map(len, code.split("\n"))) > LONGEST_LINE:
        return None
    return _coloured(code, found[1])


@lru_cache(maxsize=128)  # what stands in a list that is being written is drawn again and again
def _coloured(code: str, name: str) -> str | None:
    lexer = _lexer(name)  # its first use takes a while
    end = time.thread_time() + MOST_SECONDS
    parts: list[str] = []
    last, size = "", 0
    for kind, value in lexer.get_tokens(code):
        if not value:
            continue
        if time.thread_time() > end:
            return None
        size += len(value)
        style = _style(kind)
        if style != last:
            parts.append(("</span>" if last else "") + (f'<span class="hl-{style}">' if style else ""))
            last = style
        parts.append(escape(value))
    return "".join(parts) + ("</span>" if last else "") if size == len(code) else None


@lru_cache(maxsize=64)
def _lexer(name: str) -> Lexer:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


@lru_cache(maxsize=512)
def _style(kind: object) -> str:
    return next((style for known, style in _KINDS if kind in known), "")


def highlight_css() -> str:
    """The style sheet of code: for the light, and under `.body--dark` (NiceGUI's) or `.dark` for the dark."""

    def colours(scope: str, kinds: dict[str, str], ground: str, head: str) -> str:
        rules = [f"{scope}.gg-code {{ color: {kinds['']}; background: {ground}; }}",
                 f"{scope}.gg-language {{ color: {kinds['']}; background: {head}; }}"]  # fmt: skip
        return "\n".join(rules + [f"{scope}.hl-{kind} {{ color: {kinds[kind]}; }}" for kind in kinds if kind])

    return "\n".join([
        ".gg-code { border-radius: 6px; overflow: hidden; margin: .5rem 0; }",
        ".gg-code pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; color: inherit; background: inherit; }",
        ".gg-language { font-size: .8rem; padding: .15rem .8rem; }",
        ".hl-c { font-style: italic; }",
        colours("", LIGHT, LIGHT_GROUND, LIGHT_HEAD),
        colours(":is(.body--dark, .dark) ", DARK, DARK_GROUND, DARK_HEAD),
    ]) + "\n"  # fmt: skip
