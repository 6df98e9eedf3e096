"""The log: lines for people or for machines, with nothing of a patient's in either.

What a record says is chosen by who writes it; what an error says is not: its text may quote the very row that could not
be written. So an error is logged by its class and the places that it passed through. Libraries are not to be noisier
than `info`: at `debug` some of them log what they send.
"""

import json
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal, TextIO, assert_never

LogForm = Literal["text", "json"]

MOST_FRAMES = 20
"""Places that are told of one error: the innermost ones."""

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(
    *, level: str, form: LogForm, worker: int | None, stream: TextIO, whole_errors: bool = False
) -> None:
    """Send all that is logged in this process to `stream`. `worker`: which one of several processes this is.
    `whole_errors`: say also what errors say, for a developer whose patients are made up."""
    formatter: logging.Formatter
    match form:
        case "text":
            formatter = TextFormatter(worker, whole_errors=whole_errors)
        case "json":
            formatter = JsonFormatter(worker, whole_errors=whole_errors)
        case _:
            assert_never(form)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    wanted = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(wanted, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("bonfire").setLevel(wanted)
    # `websockets` logs through it every frame that it is given, at `debug`.
    logging.getLogger("bonfire.websocket").setLevel(max(wanted, logging.INFO))
    # httpx tells at `info` what it asks for, with all that is in the address; uvicorn what the announcement says.
    for name in ("httpx", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(wanted, logging.WARNING))


class TextFormatter(logging.Formatter):
    """`LEVEL logger: message`, behind the process's number where there are several."""

    def __init__(self, worker: int | None, *, whole_errors: bool) -> None:
        super().__init__()
        self._who = "" if worker is None else f"[worker {worker}] "
        self._whole_errors = whole_errors

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        lines = [f"{self._who}{record.levelname} {record.name}: {_message(record)}{fields}"]
        if record.exc_info and record.exc_info[1] is not None:
            lines += _told(record.exc_info[1], self._whole_errors)
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`; `worker` where there are several; `error` (a
    list of lines) where there is one; and the record's own fields (`extra`)."""

    def __init__(self, worker: int | None, *, whole_errors: bool) -> None:
        super().__init__()
        self._worker = worker
        self._whole_errors = whole_errors

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            **_fields(record),
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = list(_told(record.exc_info[1], self._whole_errors))
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    # Behind its first line, asyncio shows objects as Python spells them: a task with the error that ended it.
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}


def _told(error: BaseException, whole: bool) -> Iterator[str]:
    """An error and what led to it, in lines."""
    if whole:
        for part in traceback.format_exception(error):
            yield from part.rstrip("\n").split("\n")
        return
    yield from _places(error, set())


def _places(error: BaseException, seen: set[int]) -> Iterator[str]:
    """The classes of an error and of those that led to it, each behind the places that it came through, the innermost
    last."""
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in seen:
        yield from _places(earlier, seen)
        yield "which led to"
    frames = traceback.extract_tb(error.__traceback__)
    if len(frames) > MOST_FRAMES:
        yield f"  ... {len(frames) - MOST_FRAMES} more"
    for frame in frames[-MOST_FRAMES:]:
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    yield type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            if id(one) not in seen:
                yield from (f"  | {line}" for line in _places(one, seen))
