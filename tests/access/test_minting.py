"""Tokens of bonfire's own: who can have minted them, and where the developers' key lies."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from bonfire.access.identity import Identifier
from bonfire.access.minting import UnsafeKey, is_development_key, make_development_key, mint, read_development_key
from bonfire.access.principal import Principal

KEY = "a key of the operator of some forty characters"
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def test_a_minted_token_says_all_that_was_asked_for() -> None:
    token = mint(
        KEY,
        tenant="north",
        user="scribe",
        name="Scribe",
        now=NOW,
        lifetime=timedelta(minutes=5),
        roles=["scribe"],
        kind="agent",
        patient="p1",
        purpose="TREAT",
        scope="patient/*.rs",
        behalf_of="u1",
    )
    assert Identifier(lambda: NOW, shared_keys=[KEY], leeway=0).decide(token) == Principal(
        tenant="north",
        user="scribe",
        name="Scribe",
        roles=frozenset({"scribe"}),
        kind="agent",
        patient="p1",
        purpose="TREAT",
        scopes=frozenset({"patient/*.rs"}),
        behalf_of="u1",
        expires_at=int(NOW.timestamp()) + 300,
    )


def test_a_token_says_no_more_than_it_has_to() -> None:
    claims = jwt.decode(
        mint(KEY, tenant="t", user="u", name="n", now=NOW), options={"verify_signature": False, "verify_exp": False}
    )
    assert claims.keys() == {"iss", "aud", "sub", "tenant", "name", "roles", "kind", "iat", "exp"}


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        mint("short", tenant="t", user="u", name="n", now=NOW)


def test_a_folder_has_one_key_which_says_what_it_is_for(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert read_development_key(folder) is None
    key = make_development_key(folder)
    assert is_development_key(key)
    assert make_development_key(folder) == key == read_development_key(folder)
    [file] = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert make_development_key(tmp_path / "another") != key


def test_who_comes_second_takes_the_key_of_who_came_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        """Another process is done just before this one."""
        other = tmp_path / "other"
        other.write_text("bonfire-dev-" + "f" * 64)
        other.chmod(0o600)
        link(other, target)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert make_development_key(tmp_path / "data") == "bonfire-dev-" + "f" * 64
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    make_development_key(tmp_path)
    [file] = tmp_path.iterdir()
    file.chmod(0o640)
    with pytest.raises(UnsafeKey, match="can be read by others"):
        read_development_key(tmp_path)


@pytest.mark.parametrize("held", ["", "bonfire-dev-", "bonfire-dev-short", "something else of forty characters, or so"])
def test_what_is_no_key_is_not_used(tmp_path: Path, held: str) -> None:
    make_development_key(tmp_path)
    [file] = tmp_path.iterdir()
    file.write_text(held)
    with pytest.raises(UnsafeKey, match="holds no key"):
        read_development_key(tmp_path)


def test_a_key_that_is_no_file_is_said(tmp_path: Path) -> None:
    make_development_key(tmp_path)
    [file] = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(UnsafeKey, match="can't be read"):
        read_development_key(tmp_path)
