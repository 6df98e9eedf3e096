"""Settings: each one validated, no name let through, no secret told."""

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
        ("BONFIRE_STALE_AFTER_MS", "1500", "more than twice BONFIRE_HEARTBEAT_MS"),
        ("BONFIRE_PROT", "8000", "there is no such setting"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError, match=name) as error:
        read_settings({name: value})
    assert expected in str(error.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "BONFIRE_TOKEN_KEY"])
def test_a_secret_is_not_told(name: str) -> None:
    with pytest.raises(SettingError) as error:
        read_settings({name: "hunter2"})
    assert "hunter2" not in str(error.value)


def test_the_table_names_every_setting() -> None:
    assert settings_table().count("\n| `") == len(Settings.__dataclass_fields__)
