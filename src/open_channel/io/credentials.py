"""Who is at the other end of a Unix socket: the kernel's word, not the peer's."""

import socket
import struct
import sys
from typing import NamedTuple

__all__ = ["Credentials", "credentials"]


class Credentials(NamedTuple):
    """Process and user of the other end, as they were when it connected or listened."""

    pid: int
    uid: int


_UCRED = struct.Struct("=iII")  # unix(7): pid, uid, gid
_XUCRED = struct.Struct("=IIh2x16I")  # macOS, sys/ucred.h: version, uid, groups
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # macOS, sys/un.h


def credentials(sock: socket.socket) -> Credentials:
    """The other end's credentials; raises OSError when the connection is gone."""
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(raw)
        return Credentials(pid, uid)
    raw = sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    uid = _XUCRED.unpack(raw)[1]
    return Credentials(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID), uid)
