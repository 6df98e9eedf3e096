-- read_many: the current versions under these ids, in the order of the ids.
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from public.<current>
where tenant = bonfire.current_tenant() and id = any ($1::text[])
order by id
