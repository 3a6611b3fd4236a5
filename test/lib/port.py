"""A TCP port of loopback that stays ours while nobody listens on it.

Two sockets of Linux may be bound to one port when both say SO_REUSEADDR and neither listens: so one that never listens keeps the port, a
connection to it is refused, and the kernel gives the port to no connection and no other test, however often a server on it ends and begins.
"""
import socket


def bound(address, port=0):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((address, port))
    except OSError:
        s.close()
        raise
    return s


class Port:
    """Port(address) takes a free one; address "" takes it on all of loopback at once."""

    def __init__(self, address="127.0.0.1", number=0):
        self.address, self.keeper = address, bound(address, number)
        self.number = self.keeper.getsockname()[1]

    def listen(self, backlog=64):
        """A socket that listens, the caller's to close; the port stays ours behind it."""
        s = bound(self.address, self.number)
        s.listen(backlog)
        return s

    def close(self):
        self.keeper.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
