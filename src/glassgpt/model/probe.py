"""How a network can be looked into while it computes: every value on its way is offered under a name.

A probe is handed to one call and is no part of the network, so a request beside it notices nothing. It gives the value
back, or another in its place: keeping what was seen, switching parts off and carrying values from one text to another
are all probes (`glassgpt.inside`).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Probe = Callable[[str, Tensor], Tensor]


def seen(probe: Probe | None, place: str, name: str, value: Tensor) -> Tensor:
    """`value` as the computation goes on with it; without a probe the name is not even put together."""
    return value if probe is None else probe(place + name, value)
