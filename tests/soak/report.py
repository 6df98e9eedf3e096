"""What a run says to its reader."""

from collections import Counter
from datetime import UTC, datetime

from bonfire_protocol.values import format_position
from soak.checker import Violation
from soak.journal import Journal
from soak.run import Outcome

_SHOWN = 12


def summary(outcome: Outcome) -> str:
    """One line."""
    counts = outcome.counts
    kinds = Counter(violation.kind for violation in outcome.violations)
    verdict = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"{counts['commits']} commits, {counts['transitions checked']} transitions, "
        f"{counts['mutations']} mutations, {sum(outcome.faults.values())} faults, "
        f"live {outcome.live / max(1.0, outcome.watched):.0%} of the time: "
        f"{verdict or '0 lost, 0 doubled, 0 out of order, 0 torn'}"
    )


def describe(outcome: Outcome) -> str:
    """All there is to know, the first violations one by one."""
    lines = [f"  {name}: {count}" for name, count in outcome.counts.items()]
    lines.append(f"  the watching process was late by {1000 * outcome.lag:.0f} ms at most")
    lines.append("faults:")
    lines += [f"  {name}: {count}" for name, count in sorted(outcome.faults.items())]
    lines += [f"  {name}: could not be made here: {why}" for name, why in outcome.blocked.items()]
    lines += [f"note: {note}" for note in dict.fromkeys(outcome.notes)]
    for violation in outcome.violations[:_SHOWN]:
        lines.append(_line(violation))
    if len(outcome.violations) > _SHOWN:
        lines.append(f"... and {len(outcome.violations) - _SHOWN} more")
    return "\n".join(lines)


def story(journal: Journal, client: str) -> str:
    """All that a client was sent, and what it made of it."""
    lines = []
    for connection in (each for each in journal.connections if each.client == client):
        lines.append(
            f"connection {connection.number} to node {connection.node} ({connection.source}): had seen "
            f"{format_position(connection.said)}, welcomed at {format_position(connection.welcome)}"
        )
        for step in connection.steps:
            changed = ", ".join(
                f"{key.query} {key.args} {'let go' if result is None else len(result)}"
                for key, result in step.changed.items()
            )
            lines.append(f"{_clock(step.at)} {format_position(step.position)} {step.how}: {changed}")
    return "\n".join(lines) + "\n"


def _line(violation: Violation) -> str:
    where = f"at {_clock(violation.at)}, {violation.client}"
    return f"BROKEN {violation.promise} ({violation.kind}) {where}: {violation.detail}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]
