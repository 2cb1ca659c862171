"""The demonstration: processes that talk at full speed while their host is killed.

``run`` is what the command calls, ``supervisor`` decides who is killed and when, ``crew`` holds
its child processes, ``state`` what is known at a moment, and ``view`` what is shown of it. What
the processes do and how it is judged is a ``play``, and there are two: ``sockets`` and ``bus``,
each with the parts of its processes. ``worker`` is the script that all of them run.
"""
