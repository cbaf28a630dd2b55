# SPDX-License-Identifier: Apache-2.0
"""One export at a time for one place."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.bundle import sweep_temporaries
from zoo.errors import ZooError


@contextmanager
def reserved(out: Path) -> Iterator[None]:
    """Hold ``out`` for this process, and sweep what exports that were killed while writing it have left.

    An abstract Unix socket: the kernel frees it when the process ends, however that happens, and no file is left behind.
    It reaches every user and process of this machine, not other machines or containers that share the disk; there the
    atomic write itself decides, and the second finds that ``out`` exists.

    Raises
    ------
    ZooError
        Another process holds it; the message has its id.
    """
    if sys.platform != "linux":
        yield
        return
    place = out.absolute()
    name = str(place.parent.resolve() / place.name)
    address = b"\0affect-zoo/" + hashlib.sha256(os.fsencode(name)).hexdigest().encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise ZooError(
                f"another export{_holder(address)} is making {out}; wait for it, or give another --out"
            ) from error
        lock.listen(1)
        sweep_temporaries(out)
        yield


def _holder(address: bytes) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(address)
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return ""
    return f" (process {struct.unpack('3i', peer)[0]})"
