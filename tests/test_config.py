"""Settings: each one validated, no name let through, no secret told."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from bonfire.config import SettingError, Settings, read_settings, settings_table


def test_defaults_are_complete() -> None:
    settings = read_settings({})
    assert settings == Settings()
    assert settings.port == 8000
    assert settings.database_url is None


def test_values_are_read_and_empty_ones_are_absent() -> None:
    settings = read_settings({"BONFIRE_PORT": "9001", "BONFIRE_DATA_DIR": "x", "DATABASE_URL": "", "HOME": "/nowhere"})
    assert (settings.port, settings.data_dir, settings.database_url) == (9001, Path("x"), None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BONFIRE_PORT", "http", "a whole number from 0 to 65535"),
        ("BONFIRE_PORT", "70000", "a whole number from 0 to 65535"),
        ("BONFIRE_CHANGE_SOURCE", "kafka", "one of auto, wal, listen"),
        ("DATABASE_URL", "mysql://somewhere", "postgresql://"),
        ("BONFIRE_TOKEN_KEY", "short", "32 characters"),
        ("BONFIRE_TOKEN_KEY", "k" * 32 + ",short", "32 characters"),
        ("BONFIRE_TOKEN_KEY", "k" * 32 + ",", "32 characters"),
        ("BONFIRE_TOKEN_KEY", ",".join(["k" * 32] * 5), "32 characters"),
        ("BONFIRE_OIDC_ISSUER", "http://issuer.example", "begins with https://"),
        ("BONFIRE_OIDC_ISSUER", "http://127.0.0.1.example", "begins with https://"),
        ("BONFIRE_OIDC_ISSUER", "https://user:word@issuer.example", "begins with https://"),
        ("BONFIRE_OIDC_ISSUER", "https://issuer.example?a=b", "without a query"),
        ("BONFIRE_OIDC_ISSUER", "https://[", "begins with https://"),
        ("BONFIRE_OIDC_ISSUER", "bonfire-dev", "begins with https://"),
        ("BONFIRE_OIDC_JWKS_URL", "file:///etc/passwd", "begins with https://"),
        ("BONFIRE_CLAIM_ROLES", " roles", "the name of a claim"),
        ("BONFIRE_TOKEN_LEEWAY_SECONDS", "601", "from 0 to 600"),
        ("BONFIRE_TRUSTED_PROXIES", "10.0.0.1/8", "addresses or networks"),
        ("BONFIRE_TRUSTED_PROXIES", "proxy", "addresses or networks"),
        ("BONFIRE_PAGES_CONNECT", "issuer.example", "origins such as"),
        ("BONFIRE_STALE_AFTER_MS", "1500", "more than twice BONFIRE_HEARTBEAT_MS"),
        ("BONFIRE_PROT", "8000", "there is no such setting"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as error:
        read_settings({name: value})
    assert name in str(error.value)
    assert expected in str(error.value)


def test_an_identity_provider_needs_an_audience() -> None:
    with pytest.raises(SettingError, match="BONFIRE_OIDC_AUDIENCE: expected beside BONFIRE_OIDC_ISSUER"):
        read_settings({"BONFIRE_OIDC_ISSUER": "https://issuer.example"})
    with pytest.raises(SettingError, match="BONFIRE_OIDC_ISSUER: expected beside"):
        read_settings({"BONFIRE_OIDC_AUDIENCE": "bonfire"})
    settings = read_settings({"BONFIRE_OIDC_ISSUER": "http://127.0.0.1:8080/realms/a", "BONFIRE_OIDC_AUDIENCE": "b"})
    assert settings.oidc_issuer == "http://127.0.0.1:8080/realms/a"


def test_several_keys_and_networks_have_commas_between_them() -> None:
    both = f"{'n' * 32}, {'o' * 32}"
    settings = read_settings({"BONFIRE_TOKEN_KEY": both, "BONFIRE_TRUSTED_PROXIES": "10.0.0.0/8, fd00::1"})
    assert settings.token_keys == ("n" * 32, "o" * 32)
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::1"))


@pytest.mark.parametrize("name", ["DATABASE_URL", "BONFIRE_TOKEN_KEY"])
def test_a_secret_is_not_told(name: str) -> None:
    with pytest.raises(SettingError) as error:
        read_settings({name: "hunter2"})
    assert "hunter2" not in str(error.value)


def test_the_table_names_every_setting() -> None:
    assert settings_table().count("\n| `") == len(Settings.__dataclass_fields__)
