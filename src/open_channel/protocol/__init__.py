"""The protocol core: pure objects that know frames, sessions and elections, and nothing else.

No sockets, clocks, randomness, threads or event loops are imported here: bytes and the time
(``now``, in seconds of any monotonic clock) are arguments, bytes and decisions are results. So
all of it can be tested byte by byte and simulated. Anything that touches the system lives in
``open_channel.io``.
"""
