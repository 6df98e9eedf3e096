"""Anything that callers of every kind send to a real server: it never fails, and never says what they may not see, in
no answer, and in neither its log nor its metrics."""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from bonfire.clinical.builtin import builtin_registry
from support.callers import CALLERS, FHIR, OTHER, OWN, SOUTH, Hospital, finding, hospital, note, patient
from support.screens import live

pytestmark = pytest.mark.acceptance

EXAMPLES = settings(
    max_examples=10,
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)

# Who reads what they find, and who has nothing to find. Nobody here may see the other patient or the other tenant; they
# write, but nothing that has a marker in it.
ATTACKERS = ("nurs", "nrs2", "self", "scrb", "admn", "agnt", "none", "sout")


@pytest.fixture(scope="module")
def running(cluster: str, template: str) -> Iterator[Hospital]:
    with hospital(cluster, template, f"bonfire_fuzz_{os.getpid()}") as started:
        yield started
        # Whatever was asked: the log and the metrics know of no patient.
        metrics = httpx.get(f"{started.url}/metrics").text
        for marker in (OWN, OTHER, SOUTH):
            assert marker not in started.log()
            assert marker not in metrics
        assert "Traceback" not in started.log()


def hidden_from(caller: str) -> tuple[str, ...]:
    match caller:
        case "sout":
            return (OWN, OTHER)
        case "nrs2" | "admn" | "none":
            return (OWN, OTHER, SOUTH)
        case _:
            return (OTHER, SOUTH)


ids = st.sampled_from(
    ["p1", "p2", "s1", "n1", "n2", "r1", "d1", "sn1", "o1", "o2", "so1", "team-p1", "absent", "%00", "é"]
)
types = st.sampled_from(
    [
        "Patient",
        "DocumentReference",
        "Observation",
        "CareTeam",
        "Provenance",
        "AuditEvent",
        "Consent",
        "Practitioner",
        "X",
    ]
)
words = st.text(max_size=12) | ids | st.sampled_from(["_history", "1", "*", "mrn|", "p1,p2,s1", "0/0", "'; --"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


@st.composite
def paths(draw: st.DrawFn) -> str:
    steps = draw(
        st.tuples(types)
        | st.tuples(types, ids)
        | st.tuples(types, ids, st.just("_history"))
        | st.tuples(types, ids, st.just("_history"), words)
        | st.lists(words, max_size=4).map(tuple)
    )
    names = st.sampled_from(["_id", "identifier", "_count", "_since", "_at", "patient", "date", "agent", "entity", "x"])
    query = draw(st.dictionaries(names, words, max_size=2))
    pairs = "&".join(f"{name}={_quoted(value)}" for name, value in query.items())
    return "/fhir/" + "/".join(map(_quoted, steps)) + (f"?{pairs}" if pairs else "")


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Records that are nearly right: of this patient or of that one, with something else in some element."""
    of, id = draw(st.sampled_from(["p1", "p2", "s1", "absent"])), draw(ids)
    make = draw(
        st.sampled_from([lambda: patient(id, "Fuzzed"), lambda: note(id, of, "Fuzzed"), lambda: finding(id, of, "x")])
    )
    record: dict[str, Any] = make()
    for name in draw(st.lists(st.sampled_from(sorted(record)), max_size=2)):
        record[name] = draw(anything)
    return record


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, Any]:
    def entry() -> dict[str, Any]:
        method = draw(st.sampled_from(["GET", "PUT", "POST", "DELETE"]))
        resource = draw(records())
        url = f"{draw(types)}/{draw(ids)}" if method != "POST" else draw(types)
        made: dict[str, Any] = {"request": {"method": method, "url": url}}
        return made | ({"resource": resource} if method in ("PUT", "POST") else {})

    return {
        "resourceType": "Bundle",
        "type": draw(st.sampled_from(["batch", "transaction", "x"])),
        "entry": [entry() for _ in range(draw(st.integers(0, 3)))],
    }


@pytest.mark.parametrize("caller", ATTACKERS)
@EXAMPLES
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"]),
    paths(),
    st.none() | records() | bundles() | anything,
    st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "if-none-exist", "prefer"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
        max_size=2,
    ),
)
def test_any_request(
    running: Hospital, caller: str, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    content = None if body is None else json.dumps(body)
    sent = {**headers, **FHIR, **bearer(caller)}
    answer = httpx.request(method, running.url + path, content=content, headers=sent, timeout=30)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
    said = answer.text + str(answer.headers)
    for marker in hidden_from(caller):
        assert marker not in said


@pytest.mark.parametrize("caller", ATTACKERS)
@EXAMPLES
@given(bundles())
def test_any_bundle(running: Hospital, caller: str, bundle: dict[str, Any]) -> None:
    answer = httpx.post(f"{running.url}/fhir", json=bundle, headers={**FHIR, **bearer(caller)}, timeout=30)
    assert answer.status_code < 500
    assert not [marker for marker in hidden_from(caller) if marker in answer.text]


FUNCTIONS = builtin_registry()
QUERIES = [*sorted(query.name for query in FUNCTIONS.queries), "x"]
# Not what lets anybody see more by right: a broken glass does.
MUTATIONS = [*sorted({each.name for each in FUNCTIONS.mutations} - {"access.breakGlass"}), "x"]
arguments = st.dictionaries(
    st.sampled_from(
        [
            "patientId",
            "noteId",
            "teamId",
            "userId",
            "text",
            "limit",
            "collection",
            "id",
            "data",
            "code",
            "value",
            "reason",
        ]
    ),
    words | anything,
    max_size=4,
)


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["subscribe", "unsubscribe", "query", "mutate", "check", "ping", "renew", "hello", "x"])
    )
    frame: dict[str, Any] = {"type": kind, "id": draw(st.sampled_from(["a", "b", "c"]) | words)}
    match kind:
        case "subscribe" | "query":
            frame |= {"query": draw(st.sampled_from(QUERIES)), "args": draw(arguments)}
            if kind == "subscribe":
                frame["resume"] = draw(st.booleans())
        case "mutate":
            # A mutation's id is for once.
            frame |= {"mutation": draw(st.sampled_from(MUTATIONS)), "args": draw(arguments), "id": draw(st.uuids()).hex}
            frame |= draw(st.fixed_dictionaries({}, optional={"patient": ids, "version": words}))
        case "check":
            frame["subscription"] = draw(st.sampled_from(["a", "b", "c"]))
        case "renew":
            frame["token"] = draw(words)
        case _:
            frame |= draw(st.dictionaries(words, anything, max_size=1))
    return frame


@pytest.mark.parametrize("caller", ATTACKERS)
@EXAMPLES
@given(st.lists(frames(), min_size=1, max_size=8))
def test_any_frames(running: Hospital, caller: str, sent: list[dict[str, Any]]) -> None:
    with connect(live(running.url), max_size=None) as socket:
        socket.send(json.dumps({"type": "hello", "token": TOKENS[caller]}))
        for frame in sent:
            socket.send(json.dumps(frame))
        socket.send('{"type":"ping","id":"the last one"}')
        said: list[str] = []
        while not (said and '"the last one"' in said[-1]):
            said.append(str(socket.recv(timeout=30)))
    for text in said:
        assert '"code":"internal"' not in text
        assert not [marker for marker in hidden_from(caller) if marker in text]


TOKENS = {name: CALLERS[name].token for name in ATTACKERS}


def bearer(caller: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[caller]}"}


def _quoted(text: str) -> str:
    return quote(text.encode(errors="surrogatepass"), safe="%")
