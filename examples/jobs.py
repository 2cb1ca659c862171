"""Jobs that are shared among workers: each is done by one of them.

    python examples/jobs.py work      (in several terminals)
    python examples/jobs.py add 20    (returns when all are done)

Kill a worker, and another does the job that it had in hand.
"""

from __future__ import annotations

import os
import sys
import time

from open_channel.sync import open_channel

NAME = "examples.jobs"


def work() -> None:
    with (
        open_channel(NAME, labels={"role": "worker"}) as channel,
        channel.subscribe("mails", group="mailers", prefetch=1) as mails,
    ):
        print(f"pid {os.getpid()} works", flush=True)
        for mail in mails:  # asking for the next one says that the one before is done
            again = " again, perhaps" if mail.redelivered else ""
            time.sleep(0.05)
            print(f"pid {os.getpid()} did {mail.data}{again}", flush=True)


def add(count: int) -> None:
    with open_channel(NAME) as channel:
        # Where nobody works, nobody gets a job, now or later.
        if not any(member.labels.get("role") == "worker" for member in channel.members):
            sys.exit("nobody works")
        for number in range(count):
            channel.publish("mails", number)
        channel.flush()
        print(f"{count} jobs are done", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work"]:
            work()
        case ["add", count]:
            add(int(count))
        case _:
            sys.exit(__doc__)
