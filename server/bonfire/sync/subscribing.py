"""One client's subscriptions: each is in the audit trail before it is live, and is what the client may see now.

A subscription waits for the trail (`_opening`), then it is the engine's. When the client's rights change, each is
planned again: what is another live query for them now takes the old one's place, what they may see nothing of ends.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bonfire.access.audit import Event, Subtype, event_of
from bonfire.access.gate import Access, Denied
from bonfire.clinical.planning import Unseen
from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import LiveQuery, Plan, QueryIdentity
from bonfire.engine.session import Session
from bonfire.sync.planning import about, plan, plan_again, reasons
from bonfire.sync.refusals import duplicate_id, too_large, too_many
from bonfire.sync.stream import stream_name
from bonfire_protocol.down import Access as AccessFrame
from bonfire_protocol.down import DownFrame, Unsubscribed
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import Query, Subscribe

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

MOST_ARGS_BYTES = 16 * 1024
"""Of one subscription: they are kept as long as it is open."""


@dataclass
class _Opening:
    """It waits for the trail. The plan is that of `access`."""

    frame: Subscribe
    access: Access
    identity: QueryIdentity
    plan: Plan


@dataclass
class _Open:
    """It is live, since then. `before`: how often it was told changes of live queries that it was before; `start`: how
    often `query` had told changes when this one joined."""

    name: str
    patient: str | None
    since: datetime
    query: LiveQuery
    start: int
    before: int = 0

    @property
    def pushes(self) -> int:
        return self.before + self.query.told - self.start


class Subscribing:
    """See the module. `send` and `refuse` are the connection's; `connection` and `address` are for the trail."""

    __slots__ = (
        "_address",
        "_connection",
        "_gone",
        "_live",
        "_open",
        "_opening",
        "_refuse",
        "_send",
        "_session",
        "access",
    )

    def __init__(
        self,
        live: "Live",
        session: Session,
        access: Access,
        send: Callable[[DownFrame], None],
        refuse: Callable[[Fault, str | None], None],
        *,
        connection: str,
        address: str | None,
    ) -> None:
        self.access = access
        """What the client may see and do, as far as is known."""
        self._live = live
        self._session = session
        self._send = send
        self._refuse = refuse
        self._connection = connection
        self._address = address
        self._opening: dict[str, _Opening] = {}
        self._open: dict[str, _Open] = {}
        self._gone = False

    # ---- they come and go -----------------------------------------------------------------------------------

    def open(self, frame: Subscribe) -> None:
        """Begin one: it is live once the trail has it. Faults are those of its plan, and of its limits."""
        limits = self._live.limits
        if len(self._session.subscriptions) + len(self._opening) >= limits.subscriptions:
            raise too_many("open subscriptions", limits.subscriptions)
        if len(frame.args) > MOST_ARGS_BYTES:
            raise too_large("args", MOST_ARGS_BYTES, len(frame.args))
        if frame.id in self._opening or frame.id in self._session.subscriptions:
            raise duplicate_id()
        access = self.access
        identity, planned = self._permitted(frame, access)
        self._opening[frame.id] = opening = _Opening(frame, access, identity, planned)
        recorded = self._live.trail.submit(
            self.event(
                "subscribe",
                frame.query,
                patient=about(planned.handle),
                policies=reasons(planned.handle, access),
            )
        )
        recorded.add_done_callback(lambda done: self._recorded(opening, done))

    def close(self, id: str) -> None:
        """Let one go. Fault `not_found` when there is none of that id."""
        if self._opening.pop(id, None) is not None:
            self._send(Unsubscribed(id))
            return
        self._live.hub.engine.unsubscribe(self._session, id)
        self._ended(id)

    def leave(self) -> None:
        """The client is gone."""
        self._gone = True
        self._opening.clear()
        for id in list(self._open):
            self._ended(id)

    def _recorded(self, opening: _Opening, done: "asyncio.Future[None]") -> None:
        """The trail has it, or can't take it: then nothing is shown."""
        fault = None if done.cancelled() else done.exception()
        frame = opening.frame
        if self._gone or self._opening.get(frame.id) is not opening:
            return
        del self._opening[frame.id]
        try:
            if fault is not None:
                raise fault
            if opening.access is not self.access:
                opening.identity, opening.plan = self._permitted(frame, self.access)
            self._live.hub.engine.subscribe(
                self._session, frame.id, opening.identity, opening.plan, resume=frame.resume
            )
            self._forget_ended()
            query = self._session.subscriptions[frame.id]
            self._open[frame.id] = _Open(frame.query, about(opening.plan.handle), self._live.clock(), query, query.told)
        except Fault as refused:
            self._refuse(refused, frame.id)
        self._live.hub.pump()

    def _permitted(self, frame: Subscribe, access: Access) -> tuple[QueryIdentity, Plan]:
        """Its live query. A denial is for the trail."""
        try:
            access.may("subscribe")
            return plan(self._live.registry.find_query(frame.query), bytes(frame.args), access)
        except Fault as fault:
            self.denied(frame, fault)
            raise

    # ---- what the client may see changes --------------------------------------------------------------------

    def regrant(self, access: Access) -> None:
        """From the doubted position on, each subscription is one to what `access` lets the client see."""
        before, self.access = self.access, access
        engine = self._live.hub.engine
        if self._session.doubted_from is None:
            # It came after the commit because of which its user is looked at again.
            engine.doubt(self._session, engine.position)
        if self.stream_of(before) != self.stream_of(access):
            # First, so that the client knows why what follows ends or comes again.
            engine.announce(self._session, SharedFrame(AccessFrame(self.stream_of(access))))
        for id, query in list(self._session.subscriptions.items()):
            try:
                access.may("subscribe")
                identity, planned = plan_again(query.plan.handle, access)
            except Fault as fault:
                engine.revoke(self._session, id, fault)
                self._ended(id)
                continue
            engine.replan(self._session, id, identity, planned)
            opened, now = self._open.get(id), self._session.subscriptions[id]
            if opened is not None and now is not opened.query:
                opened.before, opened.query, opened.start = opened.pushes, now, now.told
        engine.trust(self._session)
        self._live.hub.pump()

    def stream_of(self, access: Access) -> str:
        """The name under which the client may resume what it holds."""
        principal = access.principal
        return stream_name(self._live.hub.source.stream, self._live.functions, principal, access.fingerprint)

    # ---- the trail ------------------------------------------------------------------------------------------

    def event(
        self,
        subtype: Subtype,
        query: str,
        *,
        patient: str | None = None,
        policies: tuple[str, ...] = (),
        count: int | None = None,
        since: datetime | None = None,
    ) -> Event:
        """What the client is shown, over the socket."""
        return event_of(
            self.access.principal,
            subtype,
            "socket",
            query=query,
            patient=patient,
            policies=policies,
            address=self._address,
            request=self._connection,
            count=count,
            since=since,
        )

    def denied(self, frame: Subscribe | Query, fault: Fault) -> None:
        """A denial is in the trail; any other refusal is none of its business."""
        if fault.code is FaultCode.forbidden:
            policies = fault.decision.policies if isinstance(fault, Denied) else ()
            known = frame.query in self._live.names
            self._live.trail.later(
                event_of(
                    self.access.principal,
                    "deny",
                    "socket",
                    query=frame.query if known else None,
                    patient=fault.patient if isinstance(fault, Unseen) else None,
                    policies=policies,
                    outcome=4,
                    address=self._address,
                    request=self._connection,
                )
            )

    def _forget_ended(self) -> None:
        """Of those that the engine has ended, because their query failed, nobody else is told."""
        for id in [id for id, opened in self._open.items() if self._session.subscriptions.get(id) is not opened.query]:
            self._ended(id)

    def _ended(self, id: str) -> None:
        """What was pushed over it is told once, at its end: not at each commit."""
        opened = self._open.pop(id, None)
        if opened is not None and opened.pushes:
            self._live.trail.later(
                self.event("push", opened.name, patient=opened.patient, count=opened.pushes, since=opened.since)
            )
