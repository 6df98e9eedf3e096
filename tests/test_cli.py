"""The `bonfire` command: wrong words and a world that is not ready are answered by a sentence that says what to do."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.databases import in_database


def bonfire(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BONFIRE_", "DATABASE_"))}
    return subprocess.run(
        [sys.executable, "-m", "bonfire", *words],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NOWHERE = "postgresql://someone:hunter2@127.0.0.1:1/nowhere"


@pytest.mark.parametrize("command", ["migrate", "check", "import", "worker"])
def test_a_database_that_is_down_is_said_in_one_sentence(command: str, tmp_path: Path) -> None:
    words = (command, str(tmp_path)) if command == "import" else (command,)
    told = bonfire(*words, DATABASE_URL=NOWHERE)
    assert told.returncode == 1
    assert told.stderr == "bonfire: Postgres can't be reached: see that it runs, and that DATABASE_URL names it.\n"


def test_a_database_that_does_not_exist_is_named(empty_database_url: str) -> None:
    told = bonfire("migrate", DATABASE_URL=in_database(empty_database_url, "no_such"))
    assert told.returncode == 1
    assert told.stderr == (
        'bonfire: Postgres does not let bonfire in: database "no_such" does not exist. Check the database\'s URL.\n'
    )


def test_a_url_that_can_not_be_read_is_not_repeated() -> None:
    told = bonfire("migrate", DATABASE_URL="postgresql://someone:pass@word:hunter2/x")
    assert told.returncode == 1
    assert told.stderr.startswith("bonfire: DATABASE_URL can't be read: expected postgresql://")
    assert "hunter2" not in told.stderr


def test_a_data_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = bonfire("migrate", BONFIRE_DATA_DIR=str(tmp_path / "file"))
    assert told.returncode == 1
    assert told.stderr.startswith(f"bonfire: BONFIRE_DATA_DIR: the folder {tmp_path / 'file'} can't be made (")


def test_a_port_that_there_is_not_is_refused() -> None:
    told = bonfire("dev", "--port", "99999")
    assert told.returncode == 1
    assert told.stderr == "bonfire: BONFIRE_PORT: expected a whole number from 0 to 65535, got 99999\n"


def test_a_folder_without_pages_is_refused_before_anything_starts(tmp_path: Path) -> None:
    told = bonfire("dev", "--app", str(tmp_path), DATABASE_URL=NOWHERE)
    assert told.returncode == 2
    assert f"{tmp_path / 'index.html'} is missing: build the app first" in told.stderr


def test_a_port_in_use_is_said_in_one_sentence(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = bonfire("dev", "--no-demo", "--port", str(port), DATABASE_URL=database_url)
    assert told.returncode == 1
    last = told.stderr.splitlines()[-1]
    assert last == (
        f"bonfire: can't listen on 127.0.0.1, port {port}: something listens there already: "
        "stop it, or choose another port with --port"
    )


def test_serving_needs_somebody_to_trust() -> None:
    told = bonfire("serve", DATABASE_URL=NOWHERE)
    assert told.returncode == 1
    assert told.stderr == (
        "bonfire: BONFIRE_TOKEN_KEY: `bonfire serve` needs it or BONFIRE_OIDC_ISSUER, to check its callers' tokens; "
        "neither is set\n"
    )


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token.strip(), options={"verify_signature": False})
    return claims


def test_a_developers_token_is_signed_by_the_data_folders_own_key(tmp_path: Path) -> None:
    folder = {"BONFIRE_DATA_DIR": str(tmp_path / "data")}
    told = bonfire("token", "--user", "ada", **folder)
    assert told.returncode == 0
    assert "`bonfire serve` does not" in told.stderr
    claims = claims_of(told.stdout)
    assert {name: claims[name] for name in ("iss", "sub", "tenant", "name", "roles", "kind")} == {
        "iss": "bonfire-dev",
        "sub": "ada",
        "tenant": "default",
        "name": "ada",
        "roles": ["clinician"],
        "kind": "person",
    }
    [file] = (tmp_path / "data").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() not in told.stdout + told.stderr


def test_production_does_not_start_with_a_developers_key(tmp_path: Path) -> None:
    folder = {"BONFIRE_DATA_DIR": str(tmp_path)}
    bonfire("token", "--user", "ada", **folder)
    [file] = tmp_path.iterdir()
    made = file.read_text().strip()
    for keys, data in ((made, str(tmp_path)), ("k" * 40 + "," + made, str(tmp_path / "elsewhere"))):
        told = bonfire("serve", DATABASE_URL=NOWHERE, BONFIRE_TOKEN_KEY=keys, BONFIRE_DATA_DIR=data)
        assert told.returncode == 1
        assert told.stderr.startswith("bonfire: BONFIRE_TOKEN_KEY: expected a key of your own; this one was made for")
        assert made not in told.stderr


def test_a_service_accounts_token_is_signed_by_the_first_of_the_operators_keys(tmp_path: Path) -> None:
    words = ("--tenant", "north", "--user", "importer", "--kind", "service", "--role", "importer", "--role", "writer")
    more = (
        "--purpose",
        "HOPERAT",
        "--behalf-of",
        "ada",
        "--patient",
        "p1",
        "--scope",
        "a/b",
        "--scope",
        "system/*.cruds",
    )
    keys = f"{'n' * 32},{'o' * 32}"
    told = bonfire("token", *words, *more, BONFIRE_TOKEN_KEY=keys, BONFIRE_DATA_DIR=str(tmp_path / "none"))
    assert (told.returncode, told.stderr) == (0, "")
    claims = jwt.decode(told.stdout.strip(), "n" * 32, algorithms=["HS256"], audience="bonfire")
    assert claims["iss"] == "bonfire"
    assert claims["roles"] == ["importer", "writer"]
    assert (claims["kind"], claims["purpose"], claims["behalf_of"], claims["patient"], claims["scope"]) == (
        "service",
        "HOPERAT",
        "ada",
        "p1",
        "a/b system/*.cruds",
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--hours", "0"), 2, "expected hours, more than 0"),
        (("--hours", "nan"), 2, "expected hours, more than 0"),
        (("--kind", "robot"), 2, "invalid choice"),
        (("--patient", "../1"), 1, "`patient` has to be a patient's id"),
        (("--purpose", "curiosity"), 1, "`purpose` has to be a purpose of use"),
        (("--role", ""), 1, "`roles` has to be a list"),
    ],
)
def test_a_token_that_no_server_would_take_is_not_minted(
    words: tuple[str, ...], status: int, said: str, tmp_path: Path
) -> None:
    told = bonfire("token", "--user", "ada", *words, BONFIRE_DATA_DIR=str(tmp_path))
    assert (told.returncode, told.stdout) == (status, "")
    assert said in told.stderr


def test_what_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    module = tmp_path / "my_clinic.py"
    module.write_text("raise ValueError('[/] list[int] [bold]')")
    told = bonfire("serve", str(module), BONFIRE_TOKEN_KEY="k" * 32, DATABASE_URL=NOWHERE)
    assert told.stderr == "bonfire: my_clinic.py:1: ValueError: [/] list[int] [bold]\n"
