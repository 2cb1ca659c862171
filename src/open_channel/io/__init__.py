"""The system's side: files, locks, sockets, event loops, threads, forks.

Three mechanisms, each written once and used by every service: election (``lockfile``,
``presence``), link (``link``) and host (``host``). What they decide comes from
``open_channel.protocol``; what a message means is the services' business, in the layers above.
"""
