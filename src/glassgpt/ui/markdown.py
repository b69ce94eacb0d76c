"""Stub."""

from html import escape


def blocks_of(text):
    return [f"<p>{escape(p)}</p>" for p in text.split("\n\n") if p]


class Stream:
    def __init__(self):
        self.text = ""
        self.sent = 0

    def push(self, piece):
        self.text += piece
        b = blocks_of(self.text)
        f = max(0, min(len(b) - 1, self.sent - 1))
        self.sent = len(b)
        return f, b[f:]
