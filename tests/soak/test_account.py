"""Both accounts of a run become one: the audit says what, the WAL says when."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from soak.account import told
from soak.checker import Done
from soak.rows import Key, args_text
from soak.wal import WalCommit

BOARD = Key("default", "slips.list", args_text({"patientId": "ada", "limit": 3}))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def slip(xid: int, id: str, title: str, rank: int = 1) -> dict[str, Any]:
    resource = {
        "status": "requested",
        "for": {"reference": "Patient/ada"},
        "code": {"text": "call"},
        "description": title,
        "restriction": {"repetitions": rank},
    }
    text = json.dumps(resource)
    return {"xid": xid, "source": "Task", "tenant": "default", "id": id, "version": xid, "at": NOW, "resource": text}


def other(xid: int, source: str, id: str) -> dict[str, Any]:
    tenant = "default" if source == "mutation" else None
    return {"xid": xid, "source": source, "tenant": tenant, "id": id, "version": None, "at": None, "resource": None}


def test_commits_are_in_the_order_of_the_wal_not_of_the_audit() -> None:
    rows = [slip(7, "a", "m-1"), other(7, "mutation", "m-1"), slip(8, "b", "m-2"), other(8, "outbox", "190")]
    history, done = told([], rows, [WalCommit(8, 200, 1.0), WalCommit(9, 250, 1.5), WalCommit(7, 300, 2.0)], 0, [BOARD])
    assert [(commit.xid, commit.position, commit.outbox) for commit in history.commits] == [
        (8, 200, 190),
        (7, 300, None),
    ]
    assert len(history.versions[BOARD].results) == 3
    assert done == {("default", "m-1"): [Done(1, (1,))]}


def test_a_record_that_others_write_later_is_made_once() -> None:
    rows = [slip(7, "a", "m-1"), other(7, "mutation", "m-1"), slip(8, "a", "m-1", rank=2), slip(9, "c", "m-1")]
    _, done = told([], rows, [WalCommit(xid, 100 * xid, 1.0) for xid in (7, 8, 9)], 0, [])
    assert done == {("default", "m-1"): [Done(0, (0, 2))]}


def test_a_transaction_that_the_wal_does_not_know_is_the_soaks_own_fault() -> None:
    with pytest.raises(RuntimeError, match="8"):
        told([], [slip(8, "a", "m-1")], [WalCommit(7, 700, 1.0)], 0, [])
    with pytest.raises(RuntimeError, match="7"):
        # An older transaction of the same short id.
        told([], [slip(7, "a", "m-1")], [WalCommit(7, 700, 1.0)], 700, [])
