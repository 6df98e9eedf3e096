-- The soak's own account of what every transaction changed, whoever wrote it: nothing of the product has a part in it.

create schema soak;

create table soak.audit (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  source text not null,
  tenant text,
  id text not null,
  version bigint,
  at timestamptz,
  resource jsonb
);

create function soak.note_records() returns trigger
language plpgsql security definer
as $$
begin
  insert into soak.audit (source, tenant, id, version, at, resource)
  select tg_argv[0], tenant, id, txid, ts, case when tg_op <> 'DELETE' then resource end from changed;
  return null;
end
$$;

create function soak.note_mutations() returns trigger
language plpgsql security definer
as $$
begin
  insert into soak.audit (source, tenant, id) select 'mutation', tenant, id from changed;
  return null;
end
$$;

create function soak.note_places() returns trigger
language plpgsql security definer
as $$
begin
  insert into soak.audit (xid, source, id) select xid, 'outbox', position::text from changed;
  return null;
end
$$;

create trigger soak_insert after insert on public.task
  referencing new table as changed for each statement execute function soak.note_records('Task');
create trigger soak_update after update on public.task
  referencing new table as changed for each statement execute function soak.note_records('Task');
create trigger soak_delete after delete on public.task
  referencing old table as changed for each statement execute function soak.note_records('Task');

create trigger soak_insert after insert on public.documentreference
  referencing new table as changed for each statement execute function soak.note_records('DocumentReference');
create trigger soak_update after update on public.documentreference
  referencing new table as changed for each statement execute function soak.note_records('DocumentReference');
create trigger soak_delete after delete on public.documentreference
  referencing old table as changed for each statement execute function soak.note_records('DocumentReference');

create trigger soak_insert after insert on bonfire.mutation
  referencing new table as changed for each statement execute function soak.note_mutations();
create trigger soak_insert after insert on bonfire.outbox_commit
  referencing new table as changed for each statement execute function soak.note_places();
