"""Opens files that others may have made: regular ones only, and none larger than its reader expects.

Opening a FIFO waits for a writer for ever, and a device has no end.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO


def open_regular(path: Path, limit: int) -> IO[bytes]:
    """Open a regular file of at most *limit* bytes for reading.

    Raises:
        OSError: it cannot be opened, is no regular file, or is larger; `strerror` says which.
    """
    # Without O_NONBLOCK, opening a FIFO waits. Windows has neither.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return file
    file.close()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    raise OSError(errno.EFBIG, f"it has {status.st_size} bytes; the limit is {limit}")
