"""Every route and every frame, by every caller: the expected outcome of each is a cell of a table.

The nurse, the scribe and the agent are on the care team of `p1`; `s1` is another tenant's, and `absent` is nobody's. A
record that may not be seen is answered as one that is not there: in the tables, and word by word.
"""

import os
import re
from collections.abc import Iterator

import httpx
import pytest

from support.callers import CALLERS, OTHER, OWN, SOUTH, Hospital, hospital
from support.matrix import Answer, Table, over_http, over_socket, parse_table
from support.psql import psql

pytestmark = pytest.mark.acceptance

STRANGER = "anon"

# Who may see nothing of a type at all is told so (403), whether or not there is anything; else what is hidden is as
# good as absent (404). `=2`: a search or a history that shows two; `+-`: a batch of which the second did not go well.
HTTP_READS = parse_table("""
                                                |clin nurs nrs2 desk self pat2 scrb anly admn agnt srvc none sout anon
GET /fhir/metadata                              |200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET /fhir/Patient/p1                            |200  200  403  200  200  404  200  200  403  200  200  403  404  401
GET /fhir/Patient/p2                            |200  404  403  200  404  200  404  200  403  404  200  403  404  401
GET /fhir/Patient/s1                            |404  404  403  404  404  404  404  404  403  404  404  403  200  401
GET /fhir/Patient/absent                        |404  404  403  404  404  404  404  404  403  404  404  403  404  401
GET /fhir/DocumentReference/n1                  |200  200  403  403  200  404  200  403  403  200  200  403  404  401
GET /fhir/DocumentReference/d1                  |200  200  403  403  404  404  200  403  403  200  200  403  404  401
GET /fhir/DocumentReference/r1                  |200  404  403  403  200  404  404  403  403  404  200  403  404  401
GET /fhir/DocumentReference/n2                  |200  404  403  403  404  200  404  403  403  404  200  403  404  401
GET /fhir/DocumentReference/absent              |404  404  403  403  404  404  404  403  403  404  404  403  404  401
GET /fhir/Observation/o1                        |200  200  403  403  200  404  200  200  403  200  200  403  404  401
GET /fhir/Observation/o2                        |200  404  403  403  404  200  404  200  403  404  200  403  404  401
GET /fhir/Practitioner/d1                       |200  200  200  200  200  200  200  403  200  200  200  403  404  401
GET /fhir/Patient/p1/_history                   |=1   =1   403  =1   =1   404  =1   =1   403  =1   =1   403  404  401
GET /fhir/Patient/p2/_history                   |=1   404  403  =1   404  =1   404  =1   403  404  =1   403  404  401
GET /fhir/Patient/p1/_history/{version}         |200  200  403  200  200  404  200  200  403  200  200  403  404  401
GET /fhir/Patient/p2/_history/{version}         |200  404  403  200  404  200  404  200  403  404  200  403  404  401
GET /fhir/Patient?_id=p1,p2,s1,absent           |=2   =1   403  =2   =1   =1   =1   =2   403  =1   =2   403  =1   401
GET /fhir/Patient?identifier=mrn|Hiddlestone-p2 |=1   =0   403  =1   =0   =1   =0   =0   403  =0   =1   403  =0   401
GET /fhir/DocumentReference?_id=n1,d1,r1,n2,sn1 |=4   =2   403  403  =2   =1   =2   403  403  =2   =4   403  =1   401
POST /fhir +reads                               |++-  +--  ---  ++-  +--  -+-  +--  ++-  ---  +--  ++-  ---  --+  401
GET /fhir/AuditEvent?entity=Patient/none        |403  403  403  403  403  403  403  403  =0   403  403  403  403  401
GET /fhir/AuditEvent/absent                     |403  403  403  403  403  403  403  403  404  403  403  403  403  401
PATCH /fhir/Patient/p1                          |405  405  405  405  405  405  405  405  405  405  405  405  405  401
GET /                                           |200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET /patients/p1                                |404  404  404  404  404  404  404  404  404  404  404  404  404  404
GET /healthz                                    |200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET /readyz                                     |200  200  200  200  200  200  200  200  200  200  200  200  200  200
GET /metrics                                    |200  200  200  200  200  200  200  200  200  200  200  200  200  200
""")

# The other tenant's clinician makes records of her own by ids that are taken here, and changes none of these. A DELETE
# of what is hidden does nothing and says nothing: see what is left, below.
HTTP_WRITES = parse_table("""
                                      |clin nurs nrs2 desk self pat2 scrb anly admn agnt srvc none sout anon
POST /fhir/Patient +patient           |201  403  403  201  403  403  403  403  403  403  201  403  201  401
PUT /fhir/Patient/p1 +p1              |200  200  403  200  403  403  403  403  403  403  200  403  201  401
POST /fhir/DocumentReference +draft1  |201  201  403  403  403  403  201  403  403  201  201  403  201  401
POST /fhir/DocumentReference +draft2  |201  403  403  403  403  403  403  403  403  403  201  403  201  401
POST /fhir/DocumentReference +signed1 |201  403  403  403  403  403  403  403  403  403  403  403  201  401
PUT /fhir/DocumentReference/d1 +d1    |200  200  403  403  403  403  200  403  403  200  200  403  201  401
PUT /fhir/DocumentReference/n2 +n2    |200  403  403  403  403  403  403  403  403  403  200  403  201  401
POST /fhir/Observation +finding1      |201  201  403  403  403  403  403  403  403  403  201  403  201  401
POST /fhir/Observation +finding2      |201  403  403  403  403  403  403  403  403  403  201  403  201  401
POST /fhir/Practitioner +practitioner |201  403  403  403  403  403  403  403  201  403  201  403  201  401
POST /fhir/Provenance +provenance     |403  403  403  403  403  403  403  403  403  403  403  403  403  401
POST /fhir/AuditEvent +auditEvent     |405  405  405  405  405  405  405  405  405  405  405  405  405  405
POST /fhir +writes                    |++   403  403  403  403  403  403  403  403  403  ++   403  ++   401
DELETE /fhir/Observation/x-{caller}   |204  204  204  204  403  204  403  204  204  403  204  204  204  401
DELETE /fhir/Observation/absent       |204  204  204  204  204  204  204  204  204  204  204  204  204  401
""")

DELETERS = {"clin", "nurs", "srvc"}

# How many rows are shown; `null` and `one` where one value is asked for. A live value is one row, also when it is null.
# `no` is forbidden, `404` not found, `bad` a wrong argument, `busy` a conflict with how the record is.
SOCKET_READS = parse_table("""
                                                |clin nurs nrs2 desk self pat2 scrb anly admn agnt srvc none sout
ping                                            |ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok
subscribe patients.list                         |2    1    no   2    1    1    1    no   no   1    2    no   1
subscribe patients.get patientId=p1             |1    1    no   1    1    no   1    no   no   1    1    no   1
subscribe patients.get patientId=p2             |1    no   no   1    no   1    no   no   no   no   1    no   1
subscribe patients.get patientId=s1             |1    no   no   1    no   no   no   no   no   no   1    no   1
subscribe patients.get patientId=absent         |1    no   no   1    no   no   no   no   no   no   1    no   1
subscribe notes.listByPatient patientId=p1      |3    2    no   no   2    no   2    no   no   2    3    no   0
subscribe notes.listByPatient patientId=p2      |1    no   no   no   no   1    no   no   no   no   1    no   0
subscribe notes.listByPatient patientId=absent  |0    no   no   no   no   no   no   no   no   no   0    no   0
subscribe timeline.list patientId=p1            |17   16   no   no   16   no   16   no   no   16   17   no   0
subscribe timeline.list patientId=p2            |2    no   no   no   no   2    no   no   no   no   2    no   0
subscribe scores.latest patientId=p1            |1    1    no   no   1    no   1    no   no   1    1    no   0
subscribe scores.latest patientId=p2            |1    no   no   no   no   1    no   no   no   no   1    no   0
subscribe encounters.listByPatient patientId=p2 |0    no   no   no   no   0    no   no   no   no   0    no   0
subscribe careTeam.list patientId=p1            |1    1    no   no   1    no   1    no   no   1    1    no   0
subscribe access.onChart patientId=p2           |0    no   no   0    no   0    no   no   no   no   0    no   0
subscribe access.mine                           |0    1    0    0    0    0    1    0    0    1    0    no   0
subscribe access.policies                       |no   no   no   no   no   no   no   no   0    no   no   no   no
subscribe audit.byUser userId=none              |no   no   no   no   no   no   no   no   0    no   no   no   no
query audit.byUser userId=none                  |no   no   no   no   no   no   no   no   0    no   no   no   no
query patients.search text=e                    |2    1    no   2    1    1    1    no   no   1    2    no   1
query patients.search text=Hiddlestone          |1    0    no   1    0    1    0    no   no   0    1    no   0
query patients.get patientId=p1                 |one  one  no   one  one  no   one  no   no   one  one  no   null
query patients.get patientId=p2                 |one  no   no   one  no   one  no   no   no   no   one  no   null
query patients.get patientId=absent             |null no   no   null no   no   no   no   no   no   null no   null
query notes.get patientId=p1 noteId=n1          |one  one  no   no   one  no   one  no   no   one  one  no   null
query notes.get patientId=p1 noteId=d1          |one  one  no   no   null no   one  no   no   one  one  no   null
query notes.get patientId=p1 noteId=r1          |one  null no   no   one  no   null no   no   null one  no   null
query notes.get patientId=p1 noteId=n2          |null null no   no   null no   null no   no   null null no   null
query notes.get patientId=p2 noteId=n2          |one  no   no   no   no   one  no   no   no   no   one  no   null
query notes.get patientId=p1 noteId=absent      |null null no   no   null no   null no   no   null null no   null
check nothing                                   |404  404  404  404  404  404  404  404  404  404  404  404  404
unsubscribe nothing                             |404  404  404  404  404  404  404  404  404  404  404  404  404
renew own                                       |ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok
renew south                                     |no   no   no   no   no   no   no   no   no   no   no   no   ok
""")

SOCKET_WRITES = parse_table("""
                                                     |clin nurs nrs2 desk self pat2 scrb anly admn agnt srvc none sout
mutate patients.create given=Ada family=Newcomer     |ok   no   no   ok   no   no   no   no   no   no   ok   no   ok
mutate notes.create patientId=p1 text=Draft          |ok   ok   404  no   no   no   ok   no   no   ok   ok   no   404
mutate notes.create patientId=p2 text=Draft          |ok   404  404  no   no   no   404  no   no   404  ok   no   404
mutate notes.create patientId=s1 text=Draft          |404  404  404  404  no   no   404  no   no   404  404  no   ok
mutate notes.create patientId=absent text=Draft      |404  404  404  404  no   no   404  no   no   404  404  no   404
mutate notes.edit noteId=n2 text=Overwritten         |busy 404  404  404  no   no   404  no   no   404  busy no   404
mutate notes.edit noteId=absent text=Overwritten     |404  404  404  404  no   no   404  no   no   404  404  no   404
mutate scores.record patientId=p1 code=phq-9 value=5 |ok   ok   404  no   no   no   no   no   no   no   ok   no   404
mutate scores.record patientId=p2 code=phq-9 value=5 |ok   404  404  no   no   no   404  no   no   404  ok   no   404
mutate careTeam.join patientId=p2                    |ok   404  404  no   no   no   404  no   no   404  ok   no   404
mutate careTeam.add patientId=p1 userId=new name=New |ok   ok   404  no   no   no   no   no   no   no   ok   no   404
mutate access.suspend userId=x-{caller} reason=x     |no   no   no   no   no   no   no   no   ok   no   no   no   no
mutate access.reinstate userId=x-{caller} reason=x   |no   no   no   no   no   no   no   no   ok   no   no   no   no
mutate access.activatePolicies text=x reason=x       |no   no   no   no   no   no   no   no   bad  no   no   no   no
mutate access.breakGlass patientId=absent reason=x   |ok   ok   ok   no   no   no   no   no   no   no   no   no   ok
""")


@pytest.fixture(scope="module")
def read(cluster: str, template: str) -> Iterator[Hospital]:
    """A server that is read from only."""
    with hospital(cluster, template, f"bonfire_matrix_read_{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="module")
def written(cluster: str, template: str) -> Iterator[Hospital]:
    """A server whose records the tries change."""
    with hospital(cluster, template, f"bonfire_matrix_written_{os.getpid()}") as running:
        yield running


def hidden_from(caller: str) -> tuple[str, ...]:
    """The markers that this caller is never to be shown, in whatever answer."""
    match caller:
        case "clin" | "srvc" | "desk":
            return (SOUTH,)
        case "nurs" | "scrb" | "agnt" | "self":
            return (SOUTH, OTHER)
        case "pat2":
            return (SOUTH, OWN)
        case "sout":
            return (OWN, OTHER)
        case _:
            return (SOUTH, OWN, OTHER)


def leaks(caller: str, answer: Answer) -> list[str]:
    """What was shown that must not be. What the caller has said itself may be said back."""
    return [marker for marker in hidden_from(caller) if marker in answer.said and marker not in answer.asked]


def differences(table: Table, found: dict[tuple[str, str], Answer]) -> list[str]:
    """Each cell in which something else came than is written down, or too much was said."""
    wrong = [
        f"{caller}: {tried}: expected {expected}, got {found[tried, caller].outcome}"
        for tried, row in table.items()
        for caller, expected in row.items()
        if found[tried, caller].outcome != expected
    ]
    return wrong + [
        f"{caller}: {tried}: shows {marker}"
        for (tried, caller), answer in found.items()
        for marker in leaks(caller, answer)
    ]


async def http_answers(hospital: Hospital, table: Table) -> dict[tuple[str, str], Answer]:
    versions = dict(
        line.split("|")
        for line in psql(hospital.database_url, "select id, txid from patient where id in ('p1', 'p2')").splitlines()
    )
    found = {}
    async with httpx.AsyncClient(base_url=hospital.url, timeout=30) as http:
        for tried, row in table.items():
            id = re.search(r"Patient/(p\d)", tried)
            exact = tried.replace("{version}", versions[id[1]]) if id else tried
            for caller in row:
                found[tried, caller] = await over_http(http, None if caller == STRANGER else caller, exact)
    return found


async def socket_answers(hospital: Hospital, table: Table) -> dict[tuple[str, str], Answer]:
    return {
        (tried, caller): answer
        for caller in CALLERS
        for tried, answer in (await over_socket(hospital, caller, list(table))).items()
    }


async def test_what_each_caller_reads_over_http(read: Hospital) -> None:
    assert differences(HTTP_READS, await http_answers(read, HTTP_READS)) == []


async def test_what_each_caller_reads_over_the_socket(read: Hospital) -> None:
    assert differences(SOCKET_READS, await socket_answers(read, SOCKET_READS)) == []


async def test_what_each_caller_writes(written: Hospital) -> None:
    assert differences(SOCKET_WRITES, await socket_answers(written, SOCKET_WRITES)) == []
    assert differences(HTTP_WRITES, await http_answers(written, HTTP_WRITES)) == []
    async with httpx.AsyncClient(base_url=written.url, headers=CALLERS["clin"].bearer) as http:
        left = {caller: (await http.get(f"/fhir/Observation/x-{caller}")).status_code for caller in CALLERS}
    assert left == {caller: 410 if caller in DELETERS else 200 for caller in CALLERS}


HIDDEN_AND_ABSENT = [
    ("/fhir/Patient/{}", "p2", "absent"),
    ("/fhir/Patient/{}/_history", "p2", "absent"),
    ("/fhir/Patient/{}/_history/1", "p2", "absent"),
    ("/fhir/Patient?_id={}", "p2", "absent"),
    ("/fhir/Patient?identifier=mrn|{}", "Hiddlestone-p2", "absent"),
    ("/fhir/Observation/{}", "o2", "absent"),
    ("/fhir/DocumentReference/{}", "r1", "absent"),
    ("/fhir/DocumentReference?_id={}", "r1", "absent"),
    ("/fhir/Patient/{}", "s1", "absent"),
]


@pytest.mark.parametrize("caller", ["nurs", "nrs2", "self", "scrb", "agnt", "admn", "none", "sout"])
async def test_what_is_hidden_is_answered_as_what_is_absent(read: Hospital, caller: str) -> None:
    """By status, headers and body alike, apart from the id that was asked for."""
    async with httpx.AsyncClient(base_url=read.url, headers=CALLERS[caller].bearer) as http:
        for template, hidden, absent in HIDDEN_AND_ABSENT:
            if (caller, hidden) in (("self", "r1"), ("sout", "s1")):
                continue
            said = []
            for id in (hidden, absent):
                answer = await http.get(template.format(id))
                headers = {
                    name: text for name, text in answer.headers.items() if name not in ("date", "content-length")
                }
                said.append((answer.status_code, headers, _without(answer.text, id)))
            assert said[0] == said[1], template


HIDDEN_AND_ABSENT_LIVE = [
    ("subscribe notes.listByPatient patientId={}", "p2"),
    ("subscribe timeline.list patientId={}", "p2"),
    ("subscribe patients.get patientId={}", "p2"),
    ("subscribe patients.get patientId={}", "s1"),
    ("query patients.get patientId={}", "p2"),
    ("query notes.get patientId=p1 noteId={}", "r1"),
    ("mutate notes.create text=x patientId={}", "p2"),
    ("mutate notes.edit text=x noteId={}", "n2"),
    ("mutate patients.update given=x patientId={}", "p2"),
    ("mutate careTeam.remove userId=x patientId={}", "p2"),
]


@pytest.mark.parametrize("caller", ["nurs", "nrs2", "scrb", "agnt", "none"])
async def test_what_is_hidden_is_said_on_the_socket_as_what_is_absent(read: Hospital, caller: str) -> None:
    for template, hidden in HIDDEN_AND_ABSENT_LIVE:
        said = []
        for id in (hidden, "absent"):
            tried = template.format(id)
            # A connection of its own: the frames are the same then to the last number.
            [answer] = (await over_socket(read, caller, [tried])).values()
            said.append((answer.outcome, _without(answer.said, id)))
        assert said[0] == said[1], template
        assert said[0][0] in ("no", "404", "null"), template


def _without(text: str, id: str) -> str:
    """`text` without the id that was asked for, and without what no two answers have in common: times, positions and
    the ids of frames."""
    text = re.sub(rf"(?<![\w-]){re.escape(id)}(?![\w-])", "?", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "?", text)
    text = re.sub(r'"position": "[0-9A-F/]+"', "?", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "?", text)
