"""The commands that take part in a channel's bus.

``commands`` has their names and options, ``membership`` how they join and leave, ``text`` how they
print what was published; the other modules have the commands themselves.
"""
