"""The listening socket, and how many connections this process has room for."""

import resource
from errno import EADDRINUSE
from socket import SO_SNDBUF, SOCK_STREAM, SOL_SOCKET, create_server, getaddrinfo, socket

SEND_BUFFER_BYTES = 64 * 1024
"""What the kernel takes for one client before bonfire notices that it does not read: by itself it takes some 3 MB."""


class CannotListen(Exception):
    """The address can't be listened on; the message says why."""


def listener(host: str, port: int, *, shared: bool = False) -> socket:
    """A socket that listens; `shared` with others of this address that were made so too. CannotListen says why not."""
    try:
        family = getaddrinfo(host, port, type=SOCK_STREAM)[0][0]
        listening = create_server((host, port), family=family, backlog=2048, reuse_port=shared)
    except OSError as error:
        if error.errno == EADDRINUSE:
            why = "something listens there already: stop it, or choose another port with --port"
        else:
            why = error.strerror or type(error).__name__
        raise CannotListen(f"can't listen on {host}, port {port}: {why}") from error
    # Each connection takes it over from here.
    listening.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening


DESCRIPTORS_EACH = 2
"""Files that a live connection takes: the transport's socket, and the way past it."""

DESCRIPTORS_ELSE = 200
"""Files that all else may take: connections to Postgres, requests of HTTP, logs."""


def room_for_connections(wanted: int) -> int:
    """How many live connections, of those wanted, the operating system lets this process hold. Its soft limit on open
    files, often 1024, is raised as far as need be and it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted * DESCRIPTORS_EACH + DESCRIPTORS_ELSE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(1, (soft - DESCRIPTORS_ELSE) // DESCRIPTORS_EACH)
