"""The log's lines, for people and for machines, and what they leave out."""

import asyncio
import io
import json
import logging
from typing import Any

import pytest

from bonfire.telemetry.logs import MOST_FRAMES, LogForm
from telemetry.conftest import Configure

log = logging.getLogger("bonfire.test")


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def fail() -> None:
    try:
        raise KeyError("Ada Lovelace")
    except KeyError as error:
        raise ValueError("can't write Ada Lovelace") from error


def test_a_line_for_machines(configure: Configure) -> None:
    stream = configure(worker=3)
    log.warning("a read of %d live queries is put off", 4, extra={"ticket": 17})
    line = only_line(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "bonfire.test",
        "message": "a read of 4 live queries is put off",
        "ticket": 17,
        "worker": 3,
    }


def test_a_line_for_people(configure: Configure) -> None:
    stream = configure("text", worker=3)
    log.warning("a read is put off", extra={"ticket": 17})
    assert stream.getvalue() == "[worker 3] WARNING bonfire.test: a read is put off ticket=17\n"


def test_a_message_of_several_lines_is_one_line_for_machines(configure: Configure) -> None:
    stream = configure()
    log.info("one\ntwo")
    assert only_line(stream)["message"] == "one\ntwo"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_is_told_by_its_kind_and_its_places(configure: Configure, form: LogForm) -> None:
    stream = configure(form)
    try:
        fail()
    except ValueError:
        log.exception("a job failed")
    told = stream.getvalue()
    assert "Lovelace" not in told
    assert "KeyError" in told
    assert "ValueError" in told
    assert told.index("KeyError") < told.index("which led to") < told.index("ValueError")
    assert "test_logs.py" in told
    assert "in fail" in told


def test_errors_of_a_group_and_of_a_deep_fall(configure: Configure) -> None:
    def fall(depth: int) -> None:
        if not depth:
            raise LookupError("Lovelace")
        fall(depth - 1)

    stream = configure()
    try:
        try:
            fall(3 * MOST_FRAMES)
        except LookupError as error:
            raise ExceptionGroup("Lovelace", [error, ValueError("Lovelace")]) from None
    except ExceptionGroup:
        log.exception("several failed")
    line = only_line(stream)
    assert "Lovelace" not in json.dumps(line)
    assert "ExceptionGroup" in line["error"]
    assert "  | ValueError" in line["error"]
    assert any("more" in told for told in line["error"])
    assert len(line["error"]) < 2 * MOST_FRAMES


def test_a_developer_sees_what_errors_say(configure: Configure) -> None:
    stream = configure("text", whole_errors=True)
    try:
        fail()
    except ValueError:
        log.exception("a job failed")
    assert "can't write Ada Lovelace" in stream.getvalue()


async def test_a_task_that_nobody_waited_for_tells_its_error_but_not_its_words(configure: Configure) -> None:
    stream = configure()
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "future": "<Task exception=ValueError('Ada Lovelace')>"}
    )
    assert only_line(stream)["message"] == "Task exception was never retrieved"


def test_at_debug_only_our_own_say_more(configure: Configure) -> None:
    stream = configure("text", level="debug")
    log.debug("ours")
    logging.getLogger("botocore").debug("theirs")
    # `websockets` shows each frame that it is given.
    logging.getLogger("bonfire.websocket").debug("< TEXT 'Ada Lovelace'")
    assert stream.getvalue() == "DEBUG bonfire.test: ours\n"


def test_the_level_holds_for_all(configure: Configure) -> None:
    stream = configure("text", level="error")
    log.warning("ours")
    logging.getLogger("botocore").warning("theirs")
    assert stream.getvalue() == ""
