"""The bus's protocol core, without input and output: what members and the broker say, and when.

``member`` is one member's side, ``broker`` the host's. Both live on two numbered streams of
records (``records``) that a session carries (``open_channel.protocol.session``); neither knows
sockets, clocks or event loops.
"""
