"""Where a request comes from: whom it is believed from, and which pages may write."""

from ipaddress import ip_network

import pytest

from bonfire.access.origins import Origins, Proxies
from bonfire_protocol.faults import Fault, FaultCode

PROXIES = Proxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        # What the client itself wrote is left of what the first proxy did.
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.7, rubbish", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, rubbish, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("10.0.0.1", ", ".join(["1.1.1.1", *["10.0.0.2"] * 500]), "10.0.0.2"),
        ("testclient", "198.51.100.7", "testclient"),
        (None, "198.51.100.7", None),
    ],
)
def test_a_forwarded_address_is_believed_of_trusted_proxies_only(
    peer: str | None, forwarded: str | None, address: str | None
) -> None:
    assert PROXIES.address(peer, forwarded) == address


def test_nobody_is_trusted_unless_told() -> None:
    assert Proxies().address("127.0.0.1", "198.51.100.7") == "127.0.0.1"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "clinic.example", True),
        ("https://clinic.example", "clinic.example", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://portal.example", "clinic.example", True),
        ("http://portal.example", "clinic.example", False),
        ("https://portal.example:444", "clinic.example", False),
        ("https://portal.example.evil.example", "clinic.example", False),
        ("https://clinic.example:8443", "clinic.example", False),
        ("https://evil.example", "clinic.example", False),
        ("null", "clinic.example", False),
        ("", "clinic.example", False),
        ("", "", True),
        ("https://clinic.example", None, False),
    ],
)
def test_pages_of_ours_and_of_those_who_are_named_may_write(
    origin: str | None, host: str | None, allowed: bool
) -> None:
    origins = Origins(frozenset({"https://portal.example"}), development=False)
    if allowed:
        origins.check(origin, host)
        return
    with pytest.raises(Fault) as refused:
        origins.check(origin, host)
    assert (refused.value.code, refused.value.field) == (FaultCode.forbidden, "Origin")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("LOCALHOST:5173", True),
        ("clinic.localhost:8000", True),
        ("[::1]:8000", True),
        ("clinic.test:8000", True),
        (None, True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8000", False),
        ("192.168.0.7:8000", False),
        ("[2001:db8::1]", False),
        ("[", False),
        ("", False),
    ],
)
def test_development_is_reached_by_this_machines_names_only(host: str | None, allowed: bool) -> None:
    """A page of evil.example, whose name was made to point here, would be of our own origin."""
    origins = Origins(frozenset({"http://clinic.test:8000"}), development=True)
    origin = None if host is None else f"http://{host}"
    if allowed:
        origins.check(origin, host)
        return
    with pytest.raises(Fault) as refused:
        origins.check(origin, host)
    assert (refused.value.code, refused.value.field) == (FaultCode.forbidden, "Host")


def test_production_goes_by_any_name() -> None:
    Origins(frozenset(), development=False).check_host("clinic.example")
