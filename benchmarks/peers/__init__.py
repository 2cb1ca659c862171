"""The peers: other ways to send messages from process to process, set up for speed.

Each module describes one library (or the bare system) as its own users would set it up, in the
terms of ``peers.peer``; ``peers.ledger`` has what all share: how a stream starts and how what
arrives is checked. ``peers.patterns`` measures, ``peers.record`` keeps the figures.
"""

from __future__ import annotations

from importlib import import_module

from harness import Report, Settings

from peers.peer import Peer

MODULES = (
    "ours",
    "raw",
    "zmq_peers",
    "nng_peer",
    "zenoh_peer",
    "nats_peer",
    "redis_peer",
    "stdlib",
    "localpub_peer",
)


def all_peers() -> list[Peer]:
    return [peer for name in MODULES for peer in import_module(f"peers.{name}").PEERS]


def run(settings: Settings) -> Report:
    """All patterns, as one of the benchmarks of ``run.py``."""
    from peers.report import report

    return report(settings)
