"""What the server adds to the engine: time to the first token and tokens a second, asked by HTTP beside asked directly.

    make bench ARGS="server [--model smollm2] [--rounds 5]"

The engine has a process of its own in both cases: `glassgpt serve`, and a child of this program that is asked through a
pipe.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median
from urllib.parse import urlsplit

STREAMS, NEW, PROMPT = 8, 128, "tell me about the sea and the ships that sail on it "


def prompts(count: int, salt: int) -> list[str]:
    """Of about 20 tokens, each with a beginning that was never read before."""
    return [f"{salt}.{number}: " + PROMPT for number in range(count)]


def child(pipe: Connection, name: str) -> None:
    """The engine alone: is sent prompts, gives the seconds to the first token of all and those of all the rest."""
    import glassgpt
    from glassgpt.engine.request import Piece, Request
    from glassgpt.engine.settings import SamplingSettings

    model = glassgpt.load(name)
    while (asked := pipe.recv()) is not None:
        texts, new = asked
        began = time.perf_counter()
        first: list[float] = []
        ended = threading.Semaphore(0)

        def take(piece: Piece | Exception, first: list[float] = first, ended: threading.Semaphore = ended) -> None:
            assert isinstance(piece, Piece), piece
            if not first:
                first.append(time.perf_counter())
            if piece.finish_reason:
                ended.release()

        settings = SamplingSettings(temperature=0.0, seed=0)
        requests = [Request(model.encode(text), new, settings, 0, model.end_ids) for text in texts]
        model.loop.submit(requests, [take] * len(requests))
        for _ in texts:
            ended.acquire()
        pipe.send((first[0] - began, time.perf_counter() - began))


class Alone:
    """The engine in a process."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def ask(self, texts: list[str], new: int) -> tuple[float, float]:
        self.pipe.send((texts, new))
        return self.pipe.recv()


class Served:
    """The server in a process, one connection a stream.

    The streams are read one after the other: those that wait are kept by the system, and a client that does hardly
    anything takes hardly anything from the engine's share of the processor.
    """

    def __init__(self, url: str, key: str, model: str) -> None:
        parts = urlsplit(url)
        self.address, self.key, self.model = (parts.hostname, parts.port), key, model

    def ask(self, texts: list[str], new: int) -> tuple[float, float]:
        sockets = [socket.create_connection(self.address) for _ in texts]
        requests = [self._request(text, new) for text in texts]
        time.sleep(0.02)
        began, first = time.perf_counter(), 0.0
        for each, request in zip(sockets, requests, strict=True):
            each.sendall(request)
        for each in sockets:
            found = b""
            while part := each.recv(1 << 16):
                found += part
                if not first and b"data: " in found:
                    first = time.perf_counter()
            assert b"[DONE]" in found, found
            each.close()
        return first - began, time.perf_counter() - began

    def _request(self, text: str, new: int) -> bytes:
        asked = {"model": self.model, "prompt": text, "max_tokens": new, "temperature": 0, "seed": 0, "stream": True}
        body = json.dumps(asked).encode()
        head = (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")  # fmt: skip
        return head.encode() + body


@contextmanager
def both(name: str) -> Iterator[tuple[Alone, Served]]:
    """The two sides."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, name), daemon=True)
    process.start()
    words = [sys.executable, "-m", "glassgpt", "serve", "--model", name, "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            said = json.loads(server.stdout.readline())
            yield Alone(mine), Served(said["url"], said["token"], said["models"][0])
        finally:
            server.terminate()
            mine.send(None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--firsts", type=int, default=10, help="times to the first token in a round")
    args = parser.parse_args()
    with both(args.model) as sides:
        for side in sides:
            side.ask(prompts(2, -1), 4)
        firsts: list[list[float]] = [[], []]
        rates: list[list[float]] = [[], []]
        salt = 0
        for number in range(args.rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for _ in range(args.firsts):
                salt += 1  # the same texts for both, which neither has read
                for which in order:
                    firsts[which].append(sides[which].ask(prompts(1, salt), 1)[0])
            salt += 1
            for which in order:
                _, whole = sides[which].ask(prompts(STREAMS, salt), NEW)
                rates[which].append(1 / whole)
    print(f"{args.model}, {args.rounds} rounds; medians (least to most)\n")
    for name, unit, found, factor in (
        ("first token", "ms", firsts, 1000),
        (f"{STREAMS} streams to their ends", "1/s", rates, 1),
    ):
        shown = [f"{factor * median(f):.3g} ({factor * min(f):.3g} to {factor * max(f):.3g})" for f in found]
        pairs = [b - a if unit == "ms" else b / a - 1 for a, b in zip(*found, strict=True)]
        middle = f"{1000 * median(pairs):+.1f} ms" if unit == "ms" else f"{median(pairs):+.1%}"
        print(f"{name}, {unit}: engine {shown[0]}, served {shown[1]}; pair by pair {middle}")


if __name__ == "__main__":
    main()
