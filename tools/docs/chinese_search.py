"""Search in Chinese without a dictionary: characters and pairs of them, in the index and in what is searched for.

Sphinx's own way needs a package that cuts the text, cuts the question at blanks alone, and names a stemmer that is not
there (9.0.4).
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.search.zh import SearchChinese

PIECES = re.compile(r"[a-zA-Z0-9_]+|[\u3400-\u9fff]+")


class PairsOfCharacters(SearchChinese):
    """Words of Latin letters, Chinese characters, and pairs of those."""

    lang = "zh"
    language_name = "English"  # the stemmer for Latin letters, which the page looks for under this name
    js_splitter_code = """
var splitQuery = (query) => {
  const found = [];
  for (const piece of query.match(/[a-zA-Z0-9_]+|[\\u3400-\\u9fff]+/g) || []) {
    if (!/[\\u3400-\\u9fff]/.test(piece) || piece.length === 1) found.push(piece);
    else for (let i = 0; i + 1 < piece.length; i++) found.push(piece.slice(i, i + 2));
  }
  return found;
};
"""

    def split(self, input: str) -> list[str]:
        found = []
        for piece in PIECES.findall(input):
            if piece[0] < "\u3400":
                self.latin_terms.add(piece)
                found.append(piece)
            else:
                found += [*piece, *(piece[i : i + 2] for i in range(len(piece) - 1))]
        return found

    def word_filter(self, stemmed_word: str) -> bool:
        return len(stemmed_word) > 1 or stemmed_word >= "\u3400"


def setup(app: Any) -> dict[str, bool]:
    app.add_search_language(PairsOfCharacters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
