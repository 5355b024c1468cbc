"""Who computes what a norm of the library computes."""

from __future__ import annotations

from metanorm.bench.peers.hand_written import HAND_WRITTEN
from metanorm.bench.peers.layers import LAYERS
from metanorm.bench.peers.peer import Peer


def peers(known: str, device: str) -> tuple[Peer, ...]:
    """The layers that equal a norm of the library and run on a device, installed or not.

    Those of packages come first, then those written by hand. `known` is the norm's name, or empty
    for one that is none of the library's.
    """
    by_hand = (p for p in HAND_WRITTEN.get(known, ()) if device in p.package.devices)
    return (*package_peers(known, device), *by_hand)


def package_peers(known: str, device: str) -> tuple[Peer, ...]:
    """Those of packages alone: what people use, and do not write."""
    return tuple(p for p in LAYERS.get(known, ()) if device in p.package.devices)
