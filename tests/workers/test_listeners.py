"""The sockets of several processes on one port."""

import socket
import sys

import pytest

from bonfire.listening import CannotListen
from bonfire.workers.listeners import Listeners


def test_an_address_in_use_is_refused_though_it_could_be_shared() -> None:
    one = Listeners("127.0.0.1", 0, 2)
    try:
        with pytest.raises(CannotListen, match="something listens there already"):
            Listeners("127.0.0.1", int(one.address.rpartition(":")[2]), 2)
    finally:
        one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel deals connections out")
def test_a_socket_that_is_let_go_leaves_its_share_to_the_others() -> None:
    listeners = Listeners("127.0.0.1", 0, 2)
    try:
        port = listeners.of(0).getsockname()[1]
        assert listeners.of(1).getsockname()[1] == port
        listeners.let_go(1)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                listeners.of(0).accept()[0].close()
        assert listeners.of(1).getsockname()[1] == port
    finally:
        listeners.close()
