"""Archives in a process of its own, to be killed: ``python archive_writer.py DIRECTORY FIRST``.

Prints the ids of each batch once it is stored, one line a batch.
"""

import asyncio
import itertools
import json
import sys
from pathlib import Path

from rendezvous.sink.files import FileSink
from rendezvous.sink.port import Record

BATCH = 20


def batch(number):
    """Return the records of the batch ``number``."""
    ids = [f"{number}-{n}" for n in range(BATCH)]
    return [
        Record(each, "decoy", json.dumps({"messageId": each, "x": each * 50}).encode())
        for each in ids
    ]


async def main(directory, first):
    """Store one batch after another."""
    sink = FileSink(directory)
    for number in itertools.count(first):
        records = batch(number)
        await sink.write(records)
        sys.stdout.write(" ".join(each.id for each in records) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
