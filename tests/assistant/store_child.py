"""What runs in a process of its own, to be killed or to meet a disk that takes nothing more. The tests start it."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from glassgpt.assistant.store import Store
from glassgpt.core.errors import GlassError

_SAYING = threading.Lock()


def say(*facts: Any) -> None:
    """A line to whoever started this process, at once."""
    with _SAYING:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()


def stream(url: str, replies: int) -> None:
    """So many replies at a time, for ever; every piece and every end is told after it happened here."""
    store = Store(url)
    root = store.add(store.create("killed").id, "user", "退货 question")
    say("conversation", root.conversation)

    def talk(number: int) -> None:
        while True:
            reply = store.begin_reply(root.conversation, parent=root.id)
            say("began", reply.id)
            for piece in range(10 + 20 * number):  # some end soon, others are still written when the end comes
                reply.append(f"{number}.{piece} ")
                say("said", reply.id, f"{number}.{piece} ", time.monotonic())
                time.sleep(0.01)
            reply.finish()
            say("finished", reply.id)

    for number in range(replies):
        threading.Thread(target=talk, args=(number,), daemon=True).start()
    time.sleep(600)


def fill(path: str) -> None:
    """Writes until the system takes nothing more, goes on where it does again, and tells what was said to be saved."""
    store = Store(path)
    id = store.create("full").id
    saved = [store.add(id, "user", "before").id]
    reply = store.begin_reply(id)
    reply.append("first, ")
    sizes = [p.stat().st_size for p in Path(path).parent.iterdir()]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + 300_000, hard))
    refusals: list[str] = []
    for number in range(200):
        try:
            saved.append(store.add(id, "user", f"{number} " + "x" * (900_000 if number % 3 == 2 else 20_000)).id)
        except GlassError as error:
            refusals.append(error.line())
            if len(refusals) > 4:
                break
    reply.append("second, ")
    with contextlib.suppress(GlassError):
        reply.finish()
        refusals.append("the reply was saved")
    readable = [m.id for m in store.tree(id) if m.id in saved] == saved
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    reply.wait()
    saved.append(store.add(id, "user", "after").id)
    store.close()
    say(id, saved, reply.id, refusals, readable)


if __name__ == "__main__":
    stream(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "stream" else fill(sys.argv[2])
