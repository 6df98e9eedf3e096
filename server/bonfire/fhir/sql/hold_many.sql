-- hold_many: the current versions under these ids, which nobody else changes until this transaction ends; one after the other.
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from public.<current>
where tenant = bonfire.current_tenant() and id = any ($1::text[])
order by id
for no key update
