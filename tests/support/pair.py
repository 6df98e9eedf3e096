"""Two nodes on one database, shared by many tests: each keeps to a tenant of its own."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """`source`: where both nodes have their changes from. `urls`: their http addresses, `pids` their processes."""

    source: str
    database_url: str
    urls: tuple[str, str]
    pids: tuple[int, int]

    @property
    def addresses(self) -> tuple[str, str]:
        """Where the nodes' live sockets are."""
        first, second = (url.replace("http", "ws", 1) + "/live" for url in self.urls)
        return first, second


def resident_bytes(pid: int) -> int:
    """What a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def as_tenant(tenant: str) -> str:
    """What follows in this session sees and writes the tenant's rows alone."""
    return f"set bonfire.tenant = '{tenant}'; set bonfire.reach = 'all'; set role bonfire_app;\n"


def insert_notes(patient: str, first: int, last: int, title: str = "Note") -> str:
    """Notes `n<first>` to `n<last>`; the higher the number, the newer. One statement."""
    return f"""
    insert into documentreference (id, txid, status, resource)
    select 'n' || n, nextval('transaction_id_seq'), 'created', jsonb_build_object(
      'status', 'current', 'docStatus', 'final', 'subject', jsonb_build_object('reference', 'Patient/{patient}'),
      'description', '{title} ' || n,
      'date', to_char(timestamp '2020-01-01' + n * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
    from generate_series({first}, {last}) n;
    """


def set_in_notes(where: str, **elements: object) -> str:
    """Give the notes that `where` names these elements of theirs, a new version each. One statement."""
    return f"""
    update documentreference
    set resource = resource || $json${json.dumps(elements)}$json$, txid = nextval('transaction_id_seq')
    where {where};
    """


def move_notes(where: str, patient: str) -> str:
    """Make the notes that `where` names another patient's. One statement."""
    return set_in_notes(where, subject={"reference": f"Patient/{patient}"})
