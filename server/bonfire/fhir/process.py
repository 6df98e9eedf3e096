"""Transactions and batches, done."""

from bonfire.fhir.bundle import Entry, in_order
from bonfire.fhir.done import Done
from bonfire.fhir.prepare import Batch, Transaction
from bonfire.fhir.retry import Transactions
from bonfire.fhir.transact import NewId, transact
from bonfire_protocol.faults import Fault


async def run_transaction(
    transactions: Transactions, tenant: str, transaction: Transaction, new_id: NewId
) -> list[Done]:
    """Do all entries or none. A fault names the entry that could not be done."""
    return await transactions.run(tenant, lambda conn: transact(conn, transaction.entries, new_id))


async def run_batch(transactions: Transactions, tenant: str, batch: Batch, new_id: NewId) -> list[Done | Fault]:
    """Do what can be done, in FHIR's order, each entry in a transaction of its own."""
    answers: dict[int, Done | Fault] = {}
    for entry in in_order(entry for entry in batch.entries if isinstance(entry, Entry)):
        try:
            [answers[entry.index]] = await run_transaction(transactions, tenant, Transaction([entry]), new_id)
        except Fault as fault:
            answers[entry.index] = fault
    return [entry if isinstance(entry, Fault) else answers[entry.index] for entry in batch.entries]
