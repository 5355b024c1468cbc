"""Looks up the peers of a norm of the library."""

from __future__ import annotations

from metanorm.bench.peers.hand_written import HAND_WRITTEN
from metanorm.bench.peers.layers import LAYERS
from metanorm.bench.peers.peer import Peer


def peers(norm: str, device: str) -> tuple[Peer, ...]:
    """The layers that equal a norm of the library and run on a device, installed or not.

    Layers of packages come first, then those written by hand. `norm` is a name of the library, or
    empty for any other norm.
    """
    hand_written = (p for p in HAND_WRITTEN.get(norm, ()) if device in p.package.devices)
    return (*package_peers(norm, device), *hand_written)


def package_peers(norm: str, device: str) -> tuple[Peer, ...]:
    """The peers from packages, without those written by hand."""
    return tuple(p for p in LAYERS.get(norm, ()) if device in p.package.devices)
