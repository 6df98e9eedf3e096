"""What a run says to its reader."""

from collections import Counter
from datetime import UTC, datetime

from soak.checker import Violation
from soak.run import Outcome

_SHOWN = 12


def summary(outcome: Outcome) -> str:
    """One line."""
    counts = outcome.counts
    kinds = Counter(violation.kind for violation in outcome.violations)
    verdict = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"{counts['commits']} commits, {counts['transitions checked']} transitions, "
        f"{counts['mutations']} mutations, {sum(outcome.faults.values())} faults: "
        f"{verdict or '0 lost, 0 doubled, 0 out of order, 0 torn'}"
    )


def describe(outcome: Outcome) -> str:
    """All there is to know, the first violations one by one."""
    lines = [f"  {name}: {count}" for name, count in outcome.counts.items()]
    lines.append("faults:")
    lines += [f"  {name}: {count}" for name, count in sorted(outcome.faults.items())]
    lines += [f"  {name}: could not be made here: {why}" for name, why in outcome.blocked.items()]
    lines += [f"note: {note}" for note in dict.fromkeys(outcome.notes)]
    for violation in outcome.violations[:_SHOWN]:
        lines.append(_line(violation))
    if len(outcome.violations) > _SHOWN:
        lines.append(f"... and {len(outcome.violations) - _SHOWN} more")
    return "\n".join(lines)


def _line(violation: Violation) -> str:
    at = datetime.fromtimestamp(violation.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    return f"BROKEN {violation.promise} ({violation.kind}) at {at}, {violation.client}: {violation.detail}"
