-- get: one document.
select collection, id, owner, patient, version, data::text, updated_at
from bonfire.app_state
where tenant = bonfire.current_tenant() and collection = $1 and id = $2

-- put: the document, new or in place of the one there; an owner or patient left out stays as it is.
insert into bonfire.app_state as a (collection, id, owner, patient, data)
values ($1, $2, $3, $4, $5)
on conflict (tenant, collection, id) do update
set data = excluded.data, owner = coalesce(excluded.owner, a.owner), patient = coalesce(excluded.patient, a.patient)
returning collection, id, owner, patient, version, data::text, updated_at

-- create: the document, if there is none.
insert into bonfire.app_state (collection, id, owner, patient, data)
values ($1, $2, $3, $4, $5)
on conflict do nothing
returning collection, id, owner, patient, version, data::text, updated_at

-- replace: the document, if it is the version expected.
update bonfire.app_state
set data = $5, owner = coalesce($3, owner), patient = coalesce($4, patient)
where tenant = bonfire.current_tenant() and collection = $1 and id = $2 and version = $6
returning collection, id, owner, patient, version, data::text, updated_at

-- remove: the document, if it is the version expected (null: whichever it is).
delete from bonfire.app_state
where tenant = bonfire.current_tenant() and collection = $1 and id = $2 and version = coalesce($3, version)
returning collection, id, owner, patient, version, data::text, updated_at

-- version: the version of the document that is there.
select version from bonfire.app_state where tenant = bonfire.current_tenant() and collection = $1 and id = $2

-- list: documents of a collection, the last saved first, of one owner and of one patient if they are given.
select collection, id, owner, patient, version, data::text, updated_at
from bonfire.app_state
where tenant = bonfire.current_tenant() and collection = $1
  and ($2::text is null or owner = $2) and ($3::text is null or patient = $3)
order by updated_at desc, id
limit $4
