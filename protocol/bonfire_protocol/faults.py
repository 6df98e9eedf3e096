"""What can go wrong, and what the client may do about it.

`Fault` is the one error that crosses borders: every room raises it, `web` turns it into a status and an
OperationOutcome, `sync` into a `refused` frame. A fault never carries a patient's data: it names the
field, what was expected and the *kind* of what came.
"""

from enum import IntEnum, StrEnum
from typing import Literal

Next = Literal["retry", "resync", "stop"]


class FaultCode(StrEnum):
    """Every refusal. The value is what the wire says."""

    bad_frame = "bad_frame"
    bad_arguments = "bad_arguments"
    unknown_function = "unknown_function"
    unauthenticated = "unauthenticated"
    forbidden = "forbidden"
    not_found = "not_found"
    gone = "gone"
    version_conflict = "version_conflict"
    wrong_patient = "wrong_patient"
    duplicate_id = "duplicate_id"
    mutation_id_reused = "mutation_id_reused"
    too_large = "too_large"
    too_many = "too_many"
    unsupported = "unsupported"
    busy = "busy"
    unavailable = "unavailable"
    query_failed = "query_failed"
    internal = "internal"


_NEXT: dict[FaultCode, Next] = {
    FaultCode.busy: "retry",
    FaultCode.too_many: "retry",
    FaultCode.unavailable: "retry",
    FaultCode.version_conflict: "resync",
    FaultCode.wrong_patient: "resync",
    FaultCode.gone: "resync",
}


class Fault(Exception):
    """A refusal with a reason.

    `next` says what the client may do: `retry` the same thing later, `resync` (look at the newest state
    and decide again), or `stop` (the same request can never succeed).
    """

    def __init__(
        self,
        code: FaultCode,
        message: str,
        *,
        field: str | None = None,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.expected = expected
        self.got = got

    @property
    def next(self) -> Next:
        return _NEXT.get(self.code, "stop")


class CloseCode(IntEnum):
    """WebSocket close codes, in bands: 45xx come back at once, 46xx after a delay, 47xx never with the same words."""

    come_back = 4500
    draining = 4600
    overloaded = 4601
    bad_frame = 4700
    unauthenticated = 4701
    version_unsupported = 4702
    hello_expected = 4703
