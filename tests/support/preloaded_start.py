"""Start a process in the interpreter of `tests.support.preloaded`, and stand for it: its streams, signals and status.

Imports next to nothing: it is the part that each start pays for.
"""

import marshal
import os
import signal
import socket
import sys

_, path, *arguments = sys.argv
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
request = marshal.dumps((arguments, dict(os.environ), os.getcwd()))  # noqa: PTH109
socket.send_fds(connection, [len(request).to_bytes(8)], [0, 1, 2])
connection.sendall(request)
code = int.from_bytes(connection.recv(2), signed=True)
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
