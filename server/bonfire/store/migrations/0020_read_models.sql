-- Read models: what screens read, kept true by triggers; and the telling of every write to the live engine.

-- The tables that screens read, one per read model.
create schema read;
-- For latest-per-key models: all the rows of every group, of which `read` holds the first.
create schema read_base;
-- Where a table is built before it takes the place of the old one.
create schema read_build;
grant usage on schema read to bonfire_app;

-- The read models as they are installed.
create table bonfire.read_model (
  name text primary key,
  -- Of the declaration and the compiler: another one means a rebuild.
  fingerprint text not null,
  -- The tables whose triggers keep it: FHIR types and `AppState`.
  sources text[] not null,
  rows bigint not null,
  built_at timestamptz not null default clock_timestamp()
);

comment on table bonfire.read_model is 'The read models as they are installed; `bonfire migrate` keeps it.';

-- The tables that read models are made from, with the fingerprint of their trigger functions.
create table bonfire.read_source (
  source text primary key,
  fingerprint text not null,
  -- The transaction that last built a model made from it; its functions know it.
  build text not null
);

comment on table bonfire.read_source is
  'The FHIR types (and `AppState`) that read models are made from, with their trigger functions'' fingerprint.';

-- One row for each group of a latest-per-key model, written by everybody who touches the group: writers of a group take turns,
-- and one whose snapshot is older than another's write fails to serialize instead of choosing a wrong latest row.
create table bonfire.read_group (
  model text,
  tenant text,
  id text,
  version bigint not null default 1,
  primary key (model, tenant, id)
)
with (fillfactor = 50);

comment on table bonfire.read_group is 'What writers of one group of a latest-per-key read model take turns on.';

-- The message of a write.
create function bonfire.tell(tenant text, source text, patients text[], views text) returns void
language plpgsql volatile
as $$
begin
  perform bonfire.emit(
    '{"tenant":' || to_json(tenant) || ',"source":' || to_json(source)
    || ',"patients":' || coalesce(to_json(patients)::text, 'null') || ',"views":[' || views || ']}');
  perform bonfire.after_touch(tenant, source, patients);
end
$$;

comment on function bonfire.tell(text, text, text[], text) is
  'Tells the live engine and the lanes what a statement wrote: whose records (null: too many to name), and the changed '
  'rows of read models as a JSON text.';

-- Notes the read models that this transaction touches, each once.
create function bonfire.add_touched(names text[]) returns void
language plpgsql volatile
as $$
declare
  before text := coalesce(current_setting('bonfire.touched', true), '');
  known text := before;
  name text;
begin
  foreach name in array names loop
    if strpos(',' || known || ',', ',' || name || ',') = 0 then
      known := concat_ws(',', nullif(known, ''), name);
    end if;
  end loop;
  if known <> before then
    perform set_config('bonfire.touched', known, true);
  end if;
end
$$;

comment on function bonfire.add_touched(text[]) is
  'Adds read models to the transaction-local setting bonfire.touched, which the freshness object reports.';

-- A rebuild fills tables in a transaction of its own, and a snapshot taken before it does not see their rows.
create function bonfire.require_seen(source text, build text) returns void
language plpgsql volatile
as $$
begin
  if not exists (
    select from bonfire.read_source s where s.source = require_seen.source and s.build = require_seen.build
  ) then
    raise exception 'the read models were rebuilt after this transaction took its snapshot'
      using errcode = 'serialization_failure', hint = 'Run the transaction again.';
  end if;
end
$$;

comment on function bonfire.require_seen(text, text) is
  'Fails to serialize where the snapshot is older than the last build of a source''s read models.';

-- Patients that are few enough to be named, without the null of records that are nobody's; null for more than 100.
create function bonfire.few(patients text[]) returns text[]
language sql immutable parallel safe
return case when cardinality(patients) <= 100 then array_remove(patients, null) end;

-- What a write does where no read model is made from it: it is told. The triggers of the types name theirs in an argument.
do $touch$
declare
  kind record;
  event record;
begin
  for kind in
    select * from (values
      ('touch', 'tg_argv[0]', 'bonfire.patient_of(tg_argv[0], r.id, r.resource)'),
      ('touch_app_state', '''AppState/'' || r.collection', 'r.patient')
    ) kinds (function_name, source, patient)
  loop
    for event in
      select * from (values
        ('insert', 'new_rows'),
        ('update', '(select * from new_rows union all select * from old_rows)'),
        ('delete', 'old_rows')
      ) events (name, rows)
    loop
      execute format(
        $sql$
        create function bonfire.%I() returns trigger
        language plpgsql security definer set search_path = pg_catalog, pg_temp
        as $body$
        begin
          perform bonfire.tell(t.tenant, t.source, bonfire.few(t.patients), '')
          from (
            select r.tenant, %s as source, array_agg(distinct %s) as patients
            from %s r
            group by 1, 2
          ) t;
          return null;
        end
        $body$
        $sql$,
        kind.function_name || '_' || event.name, kind.source, kind.patient, event.rows
      );
    end loop;
  end loop;
end
$touch$;

-- Triggers of one event fire in the order of their names: the history is kept first (bonfire_10_...).
do $triggers$
declare
  written record;
begin
  for written in
    select 'public' as schema, c.relname as name, 'touch' as function_name,
           substring(pg_get_expr(d.adbin, d.adrelid) from '^''(\w+)''') as argument
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'resource_type'
    join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
      and to_regclass(format('public.%I', c.relname || '_history')) is not null
    union all
    select 'bonfire', 'app_state', 'touch_app_state', 'AppState'
  loop
    execute format(
      $sql$
      create trigger bonfire_20_views_insert after insert on %1$I.%2$I
        referencing new table as new_rows for each statement execute function bonfire.%3$I(%6$L);
      create trigger bonfire_20_views_update after update on %1$I.%2$I
        referencing old table as old_rows new table as new_rows for each statement execute function bonfire.%4$I(%6$L);
      create trigger bonfire_20_views_delete after delete on %1$I.%2$I
        referencing old table as old_rows for each statement execute function bonfire.%5$I(%6$L);
      $sql$,
      written.schema, written.name,
      written.function_name || '_insert', written.function_name || '_update', written.function_name || '_delete',
      written.argument
    );
  end loop;
end
$triggers$;

-- TRUNCATE fires no trigger for its rows: documents are deleted first, as records are.
create trigger bonfire_00_truncate before truncate on bonfire.app_state
  for each statement execute function bonfire.before_record_truncate();
