"""What is generated from the frames is fresh, and the lock holds."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from bonfire_protocol import generate
from bonfire_protocol.down import DownFrame
from bonfire_protocol.generate import Lock, broken_lock, files, lock, main
from bonfire_protocol.up import UpFrame


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of its own to write to."""
    for folder in ("protocol/schema", "client-js/src"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "LOCK", tmp_path / "protocol/schema/lock.json")
    return tmp_path


def test_what_is_in_the_repository_is_fresh() -> None:
    assert main(["--check"]) == 0


def test_writing_makes_the_check_pass_and_touching_breaks_it(elsewhere: Path) -> None:
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    for path in [*files(), elsewhere / "protocol/schema/lock.json"]:
        text = path.read_text()
        path.write_text(text + " ")
        assert main(["--check"]) == 1, path
        path.write_text(text)


def test_a_changed_wire_at_the_same_version_is_neither_checked_nor_written(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = elsewhere / "protocol/schema/lock.json"
    path.write_bytes(msgspec.json.encode(Lock(lock().version, "0" * 64)))
    before = path.read_bytes()
    assert main(["--check"]) == 1
    assert main([]) == 1
    assert "PROTOCOL_VERSION" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["--relock"]) == 0
    assert main(["--check"]) == 0


def test_lock() -> None:
    kept = Lock(3, "a")
    assert broken_lock(Lock(3, "a"), kept) is None
    assert broken_lock(Lock(4, "b"), kept) is None
    assert broken_lock(Lock(1, "a"), None) is None
    assert "still 3" in (broken_lock(Lock(3, "b"), kept) or "")
    assert "back from 3" in (broken_lock(Lock(2, "a"), kept) or "")


def test_prose_is_no_part_of_the_wire_but_a_field_called_like_it_is() -> None:
    described = {"title": "Up", "description": "One thing.", "type": "object", "properties": {}}
    assert generate._without_prose(described) == {"type": "object", "properties": {}}
    fields = {"properties": {"title": {"type": "string"}, "description": {"type": "string"}}}
    assert generate._without_prose(fields) == fields


def test_the_schemas_know_every_frame_and_all_of_its_fields() -> None:
    texts = files()
    for name, union in (("up", UpFrame), ("down", DownFrame)):
        schema = msgspec.json.decode(texts[generate.ROOT / f"protocol/schema/{name}.json"])
        assert {ref["$ref"] for ref in schema["oneOf"]} == {f"#/$defs/{frame.__name__}" for frame in get_args(union)}
        for frame in get_args(union):
            fields = [field.encode_name for field in msgspec.structs.fields(frame)]
            assert list(schema["$defs"][frame.__name__]["properties"]) == ["type", *fields]


def test_client_frames_refuse_unknown_fields_in_the_schema_too() -> None:
    schema = msgspec.json.decode(files()[generate.ROOT / "protocol/schema/up.json"])
    for frame in get_args(UpFrame):
        assert schema["$defs"][frame.__name__]["additionalProperties"] is False
