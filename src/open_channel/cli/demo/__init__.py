"""The demonstration: processes that talk at full speed while their host is killed.

``run`` is the supervisor, ``crew`` its child processes, ``view`` what it shows; ``worker`` is the
script that all the children run, and ``tally`` how a writer among them counts what comes back.
"""
