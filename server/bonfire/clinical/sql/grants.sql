-- break_glass: a user's broken glass of a patient, for so many minutes by the database's clock, which ends it.
insert into bonfire.relation (user_id, kind, patient, source, until, reason, granted_by)
values ($1, 'breakGlass', $2, $3, statement_timestamp() + make_interval(mins => $4), $5, $1)
returning until

-- end_break_glass: what a user has broken of a patient's chart, before its time.
delete from bonfire.relation
where tenant = bonfire.current_tenant() and user_id = $1 and kind = 'breakGlass' and patient = $2
  and until > statement_timestamp()
returning source

-- suspend: a user, who may do nothing from now on; no row where they are suspended already.
insert into bonfire.relation (user_id, kind, patient, source, reason, granted_by)
values ($1, 'suspended', '*', 'administrator', $2, $3)
on conflict do nothing returning true

-- reinstate: a user, whoever has suspended them.
delete from bonfire.relation
where tenant = bonfire.current_tenant() and user_id = $1 and kind = 'suspended'
returning true
