"""Kill the writer of an archive before each line of its code: ``python archive_crashes.py DIR``.

A child process writes a batch and is killed before the n-th line that it runs in the sink's own
modules, for n = 1, 2, ... until it comes to its end. After each the archive must hold what was
stored before, and writing the batch again must make it whole, with each record once. Prints how
many moments were tried.
"""

import asyncio
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from rendezvous.sink import files, manifest
from rendezvous.sink.archive import read, verify
from rendezvous.sink.files import FileSink
from rendezvous.sink.port import Record

MODULES = {files.__file__, manifest.__file__}


def record(name):
    return Record(name, "decoy", b'{"messageId": "%s"}' % name.encode())


FIRST = [record("a"), record("b")]
SECOND = [record("b"), record("c"), record("d")]


async def store(directory, batch):
    sink = FileSink(directory)
    await sink.write(batch)
    await sink.aclose()


def killed_before(lines, directory):
    """Write the second batch in a child; return whether it was killed before its end."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False
    left = lines

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in MODULES:
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    asyncio.run(store(directory, SECOND))
    os._exit(0)


def main(directory):
    """Try every moment."""
    before, after = directory / "before", directory / "after"
    asyncio.run(store(before, FIRST))
    moments = 0
    while True:
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(before, after)
        killed = killed_before(moments + 1, after)
        found = list(read(after))
        assert found[:2] == [each.payload for each in FIRST], found
        asyncio.run(store(after, SECOND))
        assert list(verify(after)) == []
        found = sorted(read(after))
        assert found == [record(name).payload for name in "abcd"], found
        if not killed:
            break
        moments += 1
    sys.stdout.write(f"{moments}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
