"""The tools that a persona allows, and no others: those of the package by name, orders from its table, MCP servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from glassgpt.assistant.persona import Persona
from glassgpt.assistant.tool import Tool
from glassgpt.core.errors import ConfigError, GlassError, nearest


@dataclass
class PersonaTools:
    """Tools, and what could not be used of them, each with its reason."""

    tools: tuple[Tool[..., Any], ...] = ()
    problems: list[GlassError] = field(default_factory=list)


def persona_tools(persona: Persona) -> PersonaTools:
    """All that a persona's file names. MCP servers run until the program ends.

    Raises:
        ConfigError: there is no tool of such a name, or the package that MCP needs is missing.
        GlassError: the table of orders cannot be read.
    """
    from glassgpt.assistant.tools_builtin import builtin_tools, order_lookup

    found = PersonaTools(builtin_tools(persona.tools))
    if persona.orders is not None:
        path = persona.folder / persona.orders.file
        language = "zh" if persona.language == "zh" else "en"
        found.tools += (order_lookup(path, persona.orders.column, language=language),)
    if persona.mcp:
        from glassgpt.assistant.mcp_client import McpServers

        config = {name: {"command": one.command, "args": list(one.args), "env": one.env}
                  for name, one in persona.mcp.items()}  # fmt: skip
        servers = McpServers(config, taken=[tool.name for tool in found.tools])
        found.problems += servers.problems
        found.tools += tuple(_allowed(persona, list(servers.tools)))
    return found


def _allowed(persona: Persona, tools: list[Tool[..., Any]]) -> list[Tool[..., Any]]:
    """Without those that a server offers and the persona does not name."""
    names = [tool.name for tool in tools]
    wanted: set[str] = set()
    for server, one in persona.mcp.items():
        if one.allow is None:
            return tools
        for name in one.allow:
            full = next((n for n in (name, f"{server}_{name}") if n in names), None)
            if full is None:
                near = nearest(name, names)
                raise ConfigError("the server {server} offers no tool {name}", server=server, name=name,
                                  hint="Did you mean {near}?" if near else "It offers {known}.", near=near,
                                  known=", ".join(names)[:200])  # fmt: skip
            wanted.add(full)
    return [tool for tool in tools if tool.name in wanted]
