"""MCP servers for the tests, run as programs of their own: `python mcp_servers.py KIND`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def official(kind: str) -> None:
    """With the server's side of the official package."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer(kind)

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def who() -> str:
        """Tells the process."""
        return str(os.getpid())

    @server.tool()
    def setting(name: str) -> str:
        """Tells what a variable of the environment is."""
        return os.environ.get(name, "not set")

    @server.tool()
    def refuse(why: str) -> str:
        """Fails."""
        raise ToolError(why)

    @server.tool()
    def nap(seconds: float) -> str:
        """Takes long."""
        time.sleep(seconds)
        return "rested"

    @server.tool()
    def die() -> str:
        """Ends the whole server."""
        print("the last words", file=sys.stderr, flush=True)
        os._exit(3)

    @server.tool()
    def picture() -> list[Any]:
        """A text and a picture."""
        from mcp.types import ImageContent, TextContent

        return [TextContent(type="text", text="see:"), ImageContent(type="image", data="AAAA", mime_type="image/png")]

    @server.tool()
    def long(count: int) -> str:
        """A long text."""
        return "x" * count

    server.run()


def by_hand(kind: str) -> None:
    """With answers that no honest server gives; it speaks the older protocol."""
    import json

    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if number is None:
            continue
        found: dict[str, Any] | None = None
        if method == "initialize":
            found = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                     "serverInfo": {"name": kind, "version": "1"}}  # fmt: skip
        elif method == "tools/list" and kind == "endless":
            found = {"tools": [], "nextCursor": "more"}
        elif method == "tools/list":
            good = {"type": "object", "properties": {"x": {"type": "integer"}}}
            found = {"tools": [{"name": "good", "description": "d" * 3_000, "inputSchema": good}]}
            if kind == "schemas":
                strange = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
                invalid = {"type": "object", "properties": {"x": {"type": "elephant"}}}
                found["tools"] += [{"name": "strange", "inputSchema": strange},
                                   {"name": "invalid", "inputSchema": invalid},
                                   {"name": "n" * 70, "inputSchema": good},
                                   {"name": "dots.and/more", "inputSchema": good}]  # fmt: skip
        elif method == "tools/call":
            if kind == "garbage":
                print("Segmentation fault \x00 {{{ not json", flush=True)
                continue
            found = {"content": "this should be a list"} if kind == "shapeless" else {
                "content": [{"type": "text", "text": json.dumps(message["params"]["arguments"])}]}  # fmt: skip
        answer = {"result": found} if found else {"error": {"code": -32601, "message": "no such method"}}
        print(json.dumps({"jsonrpc": "2.0", "id": number} | answer), flush=True)


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "official":
        official(kind)
    elif kind == "mute":  # and deaf to a polite end
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(sys.argv[2]).write_text(str(os.getpid()))
        time.sleep(600)
    elif kind == "crash":
        print("no configuration found", file=sys.stderr, flush=True)
        sys.exit(2)
    elif kind == "once":  # dies at every start but the first
        mark = Path(sys.argv[2])
        if mark.exists():
            sys.exit(1)
        mark.write_text("")
        official(kind)
    else:
        by_hand(kind)
