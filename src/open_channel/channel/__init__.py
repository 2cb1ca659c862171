"""The channel and its sockets: what users of the asyncio API hold in their hands.

The listener service (who calls the user's listener for each connection) is here too. How a
connection comes about is ``open_channel.io``'s business; publish/subscribe is the bus's.
"""
