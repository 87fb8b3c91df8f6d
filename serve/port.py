"""The endpoint's port, checked without Ray."""

import errno
import socket

from serve.errors import ServeError


def check_port(host: str, port: int) -> None:
    """Check that the endpoint can listen on `host` and `port`. Serve itself would retry for a minute and report only in a replica's log.

    Raises:
        ServeError: the port is taken, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ServeError(f"serve.host '{host}' is not an address of this machine: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} of {host} is taken by another program: set serve.port to a free one, or stop it"
            ) from error
        raise ServeError(f"cannot listen on port {port} of {host}: {error.strerror}") from error
