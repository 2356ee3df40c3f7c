"""Several workers that say who they are: ``python working.py PORT HOW``.

A worker answers each connection with its number and process id. As ``HOW`` says it ends at once:
``gives-up-2`` lets the second end with exit code 7, ``leaves-2`` with 0, once.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from rendezvous.listening import bind
from rendezvous.telemetry import configure_logging
from rendezvous.workers import Workers, end_with_parent, place


def work(here, how):
    """Answer until the end; a signal's default is to end at once."""
    end_with_parent()
    if how == f"gives-up-{here.number}":
        time.sleep(0.3)
        raise SystemExit(7)
    if how == f"leaves-{here.number}":
        with contextlib.suppress(FileExistsError):
            Path("left").touch(exist_ok=False)
            return
    here.listener.listen()
    while True:
        connection, _ = here.listener.accept()
        with connection:
            connection.sendall(f"{here.number} {os.getpid()}".encode())


def main(port, how, *told):
    """Keep two workers, or be one."""
    configure_logging()
    if (here := place(told)) is not None:
        work(here, how)
        return
    with bind("127.0.0.1", int(port)) as bound:
        raise SystemExit(Workers([sys.executable, __file__, port, how], 2, bound).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
