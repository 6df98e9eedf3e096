-- facts: all that policies ask about a user.
select bonfire.access_facts($1)::text

-- facts_of_many: the same for several users, in their order, with the snapshot that all of it is of.
select
  pg_current_snapshot()::text as snapshot,
  array(select bonfire.access_facts(u.id)::text from unnest($1::text[]) with ordinality u (id, n) order by u.n) as facts

-- grant: a relation, new or in place of the one that the same source has given.
insert into bonfire.relation as r (user_id, kind, patient, source, until, reason, granted_by)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (tenant, user_id, kind, patient, source) do update
set until = excluded.until, reason = excluded.reason, granted_by = excluded.granted_by, at = statement_timestamp()

-- end: a relation that its source does not give any more.
delete from bonfire.relation
where tenant = bonfire.current_tenant() and user_id = $1 and kind = $2 and patient = $3 and source = $4
returning 1

-- end_expired: relations whose time has passed.
select bonfire.end_relations()
