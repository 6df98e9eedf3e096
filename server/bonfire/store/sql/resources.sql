-- create: a new record; no row when the id is taken.
insert into public.<current> (id, resource)
values (coalesce($1, gen_random_uuid()::text), $2)
on conflict do nothing
returning resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text

-- create_many: new records, in the order given; one statement, so one message.
insert into public.<current> (id, resource)
select given.id, given.resource::jsonb
from unnest($1::text[], $2::text[]) as given (id, resource)
returning resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text

-- read: the current version.
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from public.<current>
where tenant = bonfire.current_tenant() and id = $1

-- update: the next version, if the current one is the one expected (null: whichever it is).
update public.<current>
set resource = $2
where tenant = bonfire.current_tenant() and id = $1 and txid = coalesce($3, txid)
returning resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text

-- delete: the record, if its current version is the one expected (null: whichever it is).
delete from public.<current>
where tenant = bonfire.current_tenant() and id = $1 and txid = coalesce($2, txid)
returning txid

-- newest: the newest version of all, be it a tombstone.
select txid, status::text
from (
  select txid, status from public.<current> where tenant = bonfire.current_tenant() and id = $1
  union all
  (
    select txid, status from public.<history> where tenant = bonfire.current_tenant() and id = $1
    order by txid desc limit 1
  )
) versions
order by txid desc
limit 1

-- version: one version by its number.
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from public.<current>
where tenant = bonfire.current_tenant() and id = $1 and txid = $2
union all
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from public.<history>
where tenant = bonfire.current_tenant() and id = $1 and txid = $2
limit 1

-- history: the newest $2 versions below number $3 (null: of all) and not before the time $4 (null: ever).
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from (
  select * from public.<current> where tenant = bonfire.current_tenant() and id = $1
  union all
  (
    select * from public.<history>
    where tenant = bonfire.current_tenant() and id = $1
      and ($3::bigint is null or txid < $3) and ($4::timestamptz is null or ts >= $4)
    order by txid desc limit $2
  )
) versions
where ($3::bigint is null or txid < $3) and ($4::timestamptz is null or ts >= $4)
order by txid desc
limit $2

-- as_of: the version that was current at the time $2, be it a tombstone.
select resource_type, id, txid, ts, status::text, bonfire.fhir(resource_type, id, txid, ts, resource)::text
from (
  select * from public.<current> where tenant = bonfire.current_tenant() and id = $1 and ts <= $2
  union all
  (
    select * from public.<history> where tenant = bonfire.current_tenant() and id = $1 and ts <= $2
    order by txid desc limit 1
  )
) versions
order by txid desc
limit 1
