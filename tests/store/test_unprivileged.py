"""The account that Postgres runs as."""

import logging
import os
import pwd
import stat
from pathlib import Path

import pytest

from bonfire.store.unprivileged import ACCOUNT, account_for_postgres, let_traverse


def test_an_ordinary_user_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account_for_postgres() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make accounts")
def test_root_gets_an_account_that_is_not_root() -> None:
    account = account_for_postgres()
    assert account is not None
    assert account.uid != 0
    assert account.uid == pwd.getpwnam(ACCOUNT).pw_uid


def test_folders_above_are_opened_for_passing_through_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed, open_ = tmp_path / "closed", tmp_path / "closed" / "open"
    open_.mkdir(parents=True)
    closed.chmod(0o700)
    open_.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        let_traverse(open_ / "data")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(open_.stat().st_mode) == 0o755
    assert str(closed) in caplog.text
    assert str(open_) not in caplog.text
