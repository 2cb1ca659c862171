"""The bus: publish/subscribe, groups, requests, members and locks, for asyncio.

What members and the broker say to each other is in ``bus.core``, without input and output. Here
is what hosts the broker (``host``), a member's link to it (``client``), and what its users hold in
their hands (``channel``, ``subscription``, ``message``, ``requests``, ``members``, ``locks``).
"""
