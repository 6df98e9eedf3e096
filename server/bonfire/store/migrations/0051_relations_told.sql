-- Live queries on how users are related to patients, and on policies: what is written to these is told as a source too.

create function bonfire.tell_access_source() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  told record;
begin
  for told in execute format(
    'select r.tenant, %s as patients from (%s) r group by r.tenant',
    case tg_table_name when 'relation' then 'array_agg(distinct r.patient)' else 'null::text[]' end,
    tg_argv[1]
  ) loop
    perform bonfire.emit(json_build_object(
      'tenant', told.tenant, 'source', tg_argv[0],
      'patients', case when cardinality(told.patients) <= 100 then to_json(told.patients) end,
      'views', '[]'::json
    )::text);
  end loop;
  return null;
end
$$;

do $told$
declare
  told record;
begin
  for told in
    select * from (values
      ('relation', 'Relation', 'insert', 'new table as new_rows', 'select * from new_rows'),
      ('relation', 'Relation', 'update', 'old table as old_rows new table as new_rows',
        'select * from old_rows union all select * from new_rows'),
      ('relation', 'Relation', 'delete', 'old table as old_rows', 'select * from old_rows'),
      ('policy', 'Policy', 'insert', 'new table as new_rows', 'select * from new_rows')
    ) triggers (name, source, event, transitions, rows)
  loop
    execute format(
      'create trigger bonfire_21_tell_source_%3$s after %3$s on bonfire.%1$I referencing %4$s
       for each statement execute function bonfire.tell_access_source(%2$L, %5$L)',
      told.name, told.source, told.event, told.transitions, told.rows
    );
  end loop;
end
$told$;
