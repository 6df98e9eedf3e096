"""Tables of outcomes: a line is something that is tried, a column a caller."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from support.callers import CALLERS, FHIR, OWN, Hospital, bundle, finding, note, patient
from support.live_client import LiveClient, Refusal, live_client

Table = dict[str, dict[str, str]]


def parse_table(text: str) -> Table:
    """The first line names the columns; the words before a `|` are what is tried, those behind it its outcomes."""
    lines = [line.rpartition("|")[::2] for line in text.strip("\n").splitlines()]
    columns = lines[0][1].split()
    table = {" ".join(tried.split()): dict(zip(columns, rest.split(), strict=True)) for tried, rest in lines[1:]}
    assert len(table) == len(lines) - 1, "each line tries something else"
    return table


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "+patient": lambda: patient("x", "Newcomer"),
    "+p1": lambda: patient("p1", OWN),
    "+draft1": lambda: note("x", "p1", "A draft", "preliminary"),
    "+draft2": lambda: note("x", "p2", "A draft", "preliminary"),
    "+signed1": lambda: note("x", "p1", "Signed"),
    "+d1": lambda: note("d1", "p1", f"Draft about {OWN}", "preliminary"),
    "+n2": lambda: note("n2", "p2", "Overwritten"),
    "+finding1": lambda: finding("x", "p1", "A finding"),
    "+finding2": lambda: finding("x", "p2", "A finding"),
    "+practitioner": lambda: {"resourceType": "Practitioner"},
    "+provenance": lambda: {
        "resourceType": "Provenance",
        "target": [{"reference": "Patient/p1"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "Somebody else"}}],
    },
    "+auditEvent": lambda: {"resourceType": "AuditEvent"},
    "+reads": lambda: {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": url}} for url in ("Patient/p1", "Patient/p2", "Patient/s1")],
    },
    "+writes": lambda: bundle(finding("b1", "p1", "One"), finding("b2", "p2", "Other")),
}
"""What is sent, by the name that a table has for it."""


CODES = {"forbidden": "no", "not_found": "404", "bad_arguments": "bad", "version_conflict": "busy"}
"""Faults on the socket, as short as a table's cells."""


@dataclass(frozen=True)
class Answer:
    """What came of one try: the word that a table has for it, all that was said, and what had been asked."""

    outcome: str
    said: str
    asked: str


async def over_http(http: httpx.AsyncClient, caller: str | None, tried: str) -> Answer:
    """`GET /path [+body]` with the caller's token, None: with none. The outcome is the status; of a search or a
    history that was answered `=2` for two entries, of a batch `+-` for what went well and what did not."""
    method, path, *body = tried.replace("{caller}", caller or "nobody").split()
    headers = {**FHIR, **(CALLERS[caller].bearer if caller else {})}
    content = json.dumps(BODIES[body[0]]()) if body else None
    answer = await http.request(method, path, headers=headers, content=content)
    outcome = str(answer.status_code)
    if answer.status_code == 200 and '"Bundle"' in answer.text[:40]:
        found = answer.json()
        entries = found.get("entry", [])
        if found["type"].endswith("-response"):
            outcome = "".join("+" if entry["response"]["status"] < "3" else "-" for entry in entries)
        else:
            outcome = f"={len(entries)}"
            # The trail's pages have no total.
            assert found.get("total", len(entries)) == len(entries), "a total counts what is shown"
    kept = {name: text for name, text in answer.headers.items() if name not in ("date", "content-length")}
    return Answer(outcome, json.dumps(kept) + answer.text, path + (content or ""))


async def over_socket(hospital: Hospital, caller: str, tries: list[str]) -> dict[str, Answer]:
    """Each try on one connection of the caller's: `subscribe NAME ARGS`, `query NAME ARGS`, `mutate NAME ARGS`, where
    ARGS are `name=value`, or one of the frames that name no function. A refusal's outcome is its code (see `CODES`);
    else `ok`, and of what shows rows, how many."""
    async with live_client(hospital.url, token=CALLERS[caller].token) as client:
        found: dict[str, Answer] = {}
        for tried in tries:
            before = len(client.frames)
            kind, *words = tried.split()
            try:
                outcome = await FRAMES[kind](client, caller, words)
            except Refusal as refused:
                outcome = CODES.get(refused.frame["code"], refused.frame["code"])
            frames = [frame for frame in client.frames[before:] if frame["type"] not in ("watermark", "committed")]
            found[tried] = Answer(outcome, json.dumps(frames), tried)
        return found


async def _subscribe(client: LiveClient, caller: str, words: list[str]) -> str:
    name = await client.subscribe(words[0], f"sub {' '.join(words)}", **_arguments(caller, words[1:]))
    rows = len(client.rows(name))
    assert await client.check(name) == "same"
    await client.send({"type": "unsubscribe", "id": name})
    await client.until(lambda: name not in client.queries)
    return f"{rows}"


async def _query(client: LiveClient, caller: str, words: list[str]) -> str:
    value = await client.query(words[0], **_arguments(caller, words[1:]))
    return "null" if value is None else str(len(value)) if isinstance(value, list) else "one"


async def _mutate(client: LiveClient, caller: str, words: list[str]) -> str:
    await client.mutate(words[0], **_arguments(caller, words[1:]))
    return "ok"


async def _renew(client: LiveClient, caller: str, words: list[str]) -> str:
    await client.renew(CALLERS[caller if words == ["own"] else "sout"].token)
    return "ok"


async def _ping(client: LiveClient, caller: str, words: list[str]) -> str:
    await client._ask({"type": "ping", "id": f"ping {len(client.frames)}"})
    return "ok"


async def _check(client: LiveClient, caller: str, words: list[str]) -> str:
    return await client.check(words[0])


async def _unsubscribe(client: LiveClient, caller: str, words: list[str]) -> str:
    await client._ask({"type": "unsubscribe", "id": words[0]})
    return "ok"


FRAMES: dict[str, Callable[[LiveClient, str, list[str]], Awaitable[str]]] = {
    "subscribe": _subscribe,
    "query": _query,
    "mutate": _mutate,
    "renew": _renew,
    "ping": _ping,
    "check": _check,
    "unsubscribe": _unsubscribe,
}


def _arguments(caller: str, words: list[str]) -> dict[str, Any]:
    pairs = (word.replace("{caller}", caller).split("=", 1) for word in words)
    return {name: int(value) if value.isdigit() else value for name, value in pairs}
