"""Whose boards there are, and which live queries a client may want."""

from random import Random

from soak.rows import Key, args_text

TENANTS = ("default", "south")
PATIENTS = tuple(f"p{number}" for number in range(6))
"""The same ids in each tenant: whoever mixed tenants up would be seen."""
BULK = "bulk"
"""The board that thousands of slips come to and go from at once."""
KINDS = ("call", "visit", "lab/test", "100%")


def all_keys() -> list[Key]:
    """Every live query that anybody may hold."""
    return [key for tenant in TENANTS for key in keys_of(tenant)]


def keys_of(tenant: str) -> list[Key]:
    keys = [Key(tenant, "slips.totals", args_text({}))]
    for patient in (*PATIENTS, BULK):
        for limit in (2, 3, 5, 20) if patient != BULK else (5, 300):
            keys.append(Key(tenant, "slips.list", args_text({"patientId": patient, "limit": limit})))
        keys.append(Key(tenant, "slips.highest", args_text({"patientId": patient})))
        keys.append(Key(tenant, "slips.summary", args_text({"patientId": patient})))
        if patient != BULK:
            keys.append(Key(tenant, "notes.listByPatient", args_text({"patientId": patient, "limit": 4})))
    return keys


def some_keys(random: Random, tenant: str, count: int) -> list[Key]:
    """What one client always holds: mostly about one patient, as a chart is."""
    patient = random.choice(PATIENTS)
    near = [key for key in keys_of(tenant) if f'"{patient}"' in key.args]
    wanted = random.sample(near, min(count, len(near)))
    if random.random() < 0.4:
        wanted.append(random.choice(keys_of(tenant)))
    if random.random() < 0.3:
        # A busy list in a large window: what comes is much, and a slow reader feels it.
        wanted.append(Key(tenant, "slips.list", args_text({"patientId": BULK, "limit": 300})))
    return wanted
