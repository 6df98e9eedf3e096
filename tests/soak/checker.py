"""The verdict: what clients saw and were told, against the database's own history. Pure: a journal in, violations
out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from bonfire_protocol.values import format_position
from soak.history import History
from soak.journal import Answer, Claim, Connection, Journal, Mutation, Step
from soak.rows import Key, Result, id_of

BLINK = 0.3
"""Seconds for which old data may be shown as live: a word that was true when it left comes a moment before the next."""


@dataclass(frozen=True)
class Violation:
    """A broken promise. `promise` is its number in the protocol's page; `kind` what is wrong, in a word or two."""

    promise: str
    kind: str
    client: str
    at: float
    detail: str


@dataclass(frozen=True)
class Done:
    """A mutation as the database has it: the places in its source's spelling are asked of the history. `writes`: the
    numbers of the commits in which records with its id as their title were made, one for each such record."""

    commit: int
    writes: tuple[int, ...]


def check(
    journal: Journal, history: History, done: dict[tuple[str, str], list[Done]], *, stale_after: float, slack: float
) -> list[Violation]:
    """All violations, in the order of time.

    `done` holds what the database knows of each (tenant, mutation id). A client may show data as live while they are at
    most `stale_after` seconds old; `slack` is for the time that the watching process itself may lose.
    """
    found = [
        Violation("L1", "out of order", "", commit.at, f"transaction {commit.xid} has no place between its neighbours")
        for commit in history.disorder()
    ]
    for connection in journal.connections:
        found += _check_steps(connection, history)
        found += _check_claims(connection, history, stale_after + slack)
    found += _check_reconnects(journal.connections)
    for mutation in journal.mutations.values():
        found += _check_refusals(mutation)
        found += _check_mutation(mutation, done.get((mutation.tenant, mutation.id), []), history)
    found += [Violation("-", each.kind, each.client, each.at, each.detail) for each in journal.complaints]
    found += _check_final(journal, history)
    return sorted(found, key=lambda violation: violation.at)


# ---- what was shown -------------------------------------------------------------------------------------------------


def _check_steps(connection: Connection, history: History) -> Iterator[Violation]:
    """Order, and every result of the connection at every position."""
    held: dict[Key, Result] = {}
    good: dict[Key, int | None] = {}
    before = connection.welcome
    for step in connection.steps:
        if step.position < before:
            yield Violation(
                "L1",
                "out of order",
                connection.client,
                step.at,
                f"after {format_position(before)} came {format_position(step.position)}",
            )
        before = step.position
        for key, result in step.changed.items():
            if result is None:
                held.pop(key, None)
                good.pop(key, None)
            else:
                held[key] = result
                # Where it holds until is not known yet.
                good[key] = -2
        number = history.number(connection.source, step.position)
        wrong: dict[Key, Result] = {}
        for key, result in held.items():
            until = good[key]
            if until == -2 or (until is not None and until <= number):
                versions = history.versions[key]
                right = versions.after(number)
                if result != right:
                    wrong[key] = right
                good[key] = versions.next_change(number)
        if wrong:
            yield _judge(connection, step, number, held, wrong, history)


def _judge(
    connection: Connection,
    step: Step,
    number: int,
    held: dict[Key, Result],
    wrong: dict[Key, Result],
    history: History,
) -> Violation:
    """Give what is wrong its name."""
    details = []
    kinds = set()
    for key, right in wrong.items():
        kind = _kind(held[key], right, key, number, history)
        kinds.add(kind)
        details.append(f"{key.query} {key.args} ({key.tenant}) {kind}: {_difference(held[key], right)}")
    kind = "wrong" if len(kinds) > 1 else kinds.pop()
    if kind in ("lost", "early") and len(wrong) < len(held):
        # The others are right at this position, so the connection shows two positions at once.
        details.insert(0, f"{len(wrong)} of {len(held)} results are of another position")
        kind = f"torn, {kind}"
    where = f"connection {connection.number} to node {connection.node} ({connection.source})"
    how = f"{where} at {format_position(step.position)}, by {step.how}: "
    return Violation("L2/L3", kind, connection.client, step.at, how + "; ".join(details))


def _kind(shown: Result, right: Result, key: Key, number: int, history: History) -> str:
    ids = [id_of(row) for row in shown]
    if len(set(ids)) < len(ids):
        return "doubled"
    if sorted(shown) == sorted(right):
        return "reordered"
    versions = history.versions[key]
    for commit, result in zip(versions.commits, versions.results, strict=True):
        if result == shown:
            return "lost" if commit <= number else "early"
    return "wrong"


def _difference(shown: Result, right: Result) -> str:
    missing = [row for row in right if row not in shown]
    extra = [row for row in shown if row not in right]
    return (
        f"shown {len(shown)} rows, right are {len(right)}; missing {missing[:4]}{'...' if missing[4:] else ''}, "
        f"too many {extra[:4]}{'...' if extra[4:] else ''}"
    )


def _check_claims(connection: Connection, history: History, limit: float) -> Iterator[Violation]:
    """L4: data shown as live lack no commit that is older than the limit, but for a blink."""
    held: set[Key] = set()
    steps = iter(connection.steps)
    pending = next(steps, None)
    since: float | None = None
    for claim, following in pairwise(connection.claims):
        while pending is not None and pending.at <= claim.at:
            for key, result in pending.changed.items():
                if result is None:
                    held.discard(key)
                else:
                    held.add(key)
            pending = next(steps, None)
        until = min(following.at, connection.slowed_at)
        missing = _oldest_missing(claim, held, connection, history) if claim.live and claim.at < until else None
        if missing is None or missing[0] + limit >= until:
            since = None
            continue
        at, key = missing
        since = max(claim.at, at + limit) if since is None else since
        if until - since > BLINK:
            yield Violation(
                "L4",
                "stale posing as live",
                connection.client,
                until,
                f"connection {connection.number} to node {connection.node} shows {key.query} {key.args} as live at "
                f"{format_position(claim.position)}, {until - at:.1f} s after a commit that changed it; before that "
                f"came {_last_words(connection, until)}",
            )
            return


def _oldest_missing(claim: Claim, held: set[Key], connection: Connection, history: History) -> tuple[float, Key] | None:
    """The oldest commit that what is held lacks at the claim's position: its time, and what it changed."""
    number = history.number(connection.source, claim.position)
    missing = [(key, history.versions[key].next_change(number)) for key in held]
    return min(((history.commits[commit].at, key) for key, commit in missing if commit is not None), default=None)


def _last_words(connection: Connection, until: float) -> str:
    """The last frames that moved a connection, with how long before `until` they came."""
    last = [step for step in connection.steps if step.at <= until][-4:]
    return "; ".join(f"{until - step.at:.2f} s: {step.how} at {format_position(step.position)}" for step in last)


def _check_reconnects(connections: list[Connection]) -> Iterator[Violation]:
    """L7: who comes back is shown nothing that is older than what they have seen.

    A node that has lost its database may well welcome them at an older position, as long as it shows nothing.
    """
    for connection in connections:
        shown = next((step for step in connection.steps if step.how and step.position < connection.said), None)
        if shown is not None:
            yield Violation(
                "L7",
                "taken back",
                connection.client,
                shown.at,
                f"had seen {format_position(connection.said)}, and connection {connection.number} to node "
                f"{connection.node} shows {format_position(shown.position)}, by {shown.how}",
            )


def _check_final(journal: Journal, history: History) -> Iterator[Violation]:
    """When all is quiet, everybody is live and has all there is at the position that they have reached."""
    last = history.commits[-1].at if history.commits else 0.0
    for client, final in journal.final.items():
        if isinstance(final, str):
            yield Violation("L4", "never live again", client, last, final)
            continue
        number = history.number(final.source, final.position)
        for key, result in final.held.items():
            right = history.versions[key].after(number)
            if result != right:
                yield Violation(
                    "L3", "lost", client, last, f"at the end {key.query} {key.args}: {_difference(result, right)}"
                )


# ---- what was answered ----------------------------------------------------------------------------------------------


def _check_refusals(mutation: Mutation) -> Iterator[Violation]:
    """Trouble around the server is no reason to refuse for good."""
    for answer in mutation.answers:
        if answer.code in ("internal", "bad_frame", "bad_arguments"):
            yield Violation("-", "refused", mutation.id, answer.at, f"{answer.client} was told `{answer.code}`")


def _check_mutation(mutation: Mutation, done: list[Done], history: History) -> Iterator[Violation]:
    """L5 and L6: done once or not at all, called committed only when it is, and at no earlier position."""

    def violation(promise: str, kind: str, detail: str) -> Violation:
        return Violation(promise, kind, mutation.id, mutation.sent_at, detail)

    if len(done) > 1:
        yield violation("L6", "applied twice", f"it has {len(done)} commits")
        return
    committed = [answer for answer in mutation.answers if answer.kind == "committed"]
    if not done:
        if committed:
            yield violation("L6", "not there", "it was called committed, and the database has never heard of it")
        return
    writes = Counter(done[0].writes)
    if writes != {done[0].commit: mutation.writes}:
        yield violation(
            "L6",
            "applied twice" if writes.total() > mutation.writes else "half applied",
            f"it made {writes.total()} records in {len(writes)} commits, not {mutation.writes} in its own",
        )
    for answer in mutation.answers:
        yield from _check_answer(mutation, answer, committed[0] if committed else None, done[0], history)


def _check_answer(
    mutation: Mutation, answer: Answer, first: Answer | None, done: Done, history: History
) -> Iterator[Violation]:
    if answer.kind == "refused":
        if answer.next == "stop":
            yield Violation(
                "L6", "refused, yet done", mutation.id, answer.at, f"{answer.client} was told `{answer.code}`, for good"
            )
        return
    place = history.commits[done.commit].place(answer.source)
    if answer.position < place:
        yield Violation(
            "L5",
            "position too early",
            mutation.id,
            answer.at,
            f"answered {format_position(answer.position)}, committed at {format_position(place)} ({answer.source})",
        )
    if first is not None and answer.value != first.value:
        yield Violation("L6", "two answers", mutation.id, answer.at, "the second answer is not the first one")
