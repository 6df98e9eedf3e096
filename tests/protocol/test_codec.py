"""The codec against the byte vectors: the same frames, byte for byte, in both spellings."""

from typing import Any, get_args

import pytest

from bonfire_protocol.codec import Format, decode_down, decode_up, encode
from bonfire_protocol.down import DownFrame
from bonfire_protocol.faults import Fault
from bonfire_protocol.up import UpFrame
from protocol.vectors import load, name_of

FRAMES = load("frames")
UP = [case for case in FRAMES if case["direction"] == "up"]
DOWN = [case for case in FRAMES if case["direction"] == "down"]


@pytest.mark.parametrize("case", UP, ids=name_of)
def test_client_frame(case: dict[str, Any]) -> None:
    frame = decode_up(case["json"])
    packed = bytes.fromhex(case["msgpack"])
    assert encode(frame).decode() == case["json"]
    assert encode(frame, Format.msgpack) == packed
    assert encode(decode_up(packed, Format.msgpack)).decode() == case["json"]


@pytest.mark.parametrize(("case", "text"), [(case, text) for case in UP for text in case["also"]])
def test_client_frame_in_another_spelling(case: dict[str, Any], text: str) -> None:
    same, other = decode_up(case["json"]), decode_up(text)
    # What is raw keeps the spelling that it came in, so these are compared as they go out.
    assert type(same) is type(other)
    assert encode(other).decode() == case["json"]


@pytest.mark.parametrize("case", DOWN, ids=name_of)
def test_server_frame(case: dict[str, Any]) -> None:
    frame = decode_down(case["json"])
    packed = bytes.fromhex(case["msgpack"])
    assert encode(frame).decode() == case["json"]
    assert encode(frame, Format.msgpack) == packed
    assert encode(decode_down(packed, Format.msgpack)).decode() == case["json"]


@pytest.mark.parametrize("case", load("bad"), ids=name_of)
def test_what_is_no_client_frame_is_refused(case: dict[str, Any]) -> None:
    data, format = (case["json"], Format.json) if "json" in case else (bytes.fromhex(case["msgpack"]), Format.msgpack)
    with pytest.raises(Fault) as caught:
        decode_up(data, format)
    fault = caught.value
    told = {"code": fault.code.value, "next": fault.next, "field": fault.field, "expected": fault.expected}
    assert {name: value for name, value in told.items() if value is not None} == case["refusal"]
    assert fault.message


@pytest.mark.parametrize(("union", "cases"), [(UpFrame, UP), (DownFrame, DOWN)], ids=["up", "down"])
def test_every_frame_has_a_vector(union: Any, cases: list[dict[str, Any]]) -> None:
    decode = decode_up if union is UpFrame else decode_down
    assert {type(decode(case["json"])) for case in cases} == set(get_args(union))
