"""Stub."""

from html import escape


def blocks_of(text):
    return [f"<p>{escape(p)}</p>" for p in text.split("\n\n")]


class Stream:
    def __init__(self):
        self.text = ""

    def push(self, piece):
        self.text += piece
        b = blocks_of(self.text)
        f = max(0, len(b) - 1)
        return f, b[f:]
