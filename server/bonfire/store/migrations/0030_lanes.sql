-- Lanes: work that follows a commit (indexes), queued inside the write's own transaction.

-- Which indexes exist and whether they are on; one row each, written by the owner at start.
create table bonfire.index (
  name text primary key,
  enabled boolean not null default false,
  -- Why it is off, in words for the operator.
  reason text,
  -- What it was built for (a model's dimension, a format's version): a change means a rebuild.
  build text,
  -- What it is made from: FHIR types and `AppState/<collection>`; nothing else queues work for it.
  sources text[] not null default '{}'
);

comment on table bonfire.index is
  'The indexes that follow the records from behind; only those that are on queue work.';

create type bonfire.job_state as enum ('waiting', 'running', 'failed');

-- Writers only ever append here, so that no writer waits for another one or for a worker. Whoever claims a job
-- absorbs the others that wait for the same (tenant, index, patient): that is where touches merge.
create table bonfire.job (
  id bigint generated always as identity primary key,
  tenant text not null default bonfire.current_tenant(),
  index text not null,
  -- Whose records to look at again; '*', which is no FHIR id: everybody's in this tenant (a sweep).
  patient text not null,
  -- The mutations that wait to hear of this job's end.
  mutations text[] not null default '{}',
  -- The transaction that asked: it asks once, however many of its statements touch the patient.
  xid xid8 not null default pg_current_xact_id(),
  state bonfire.job_state not null default 'waiting',
  -- 0: somebody waits for it; 1: a part of a sweep.
  priority smallint not null default 0,
  attempts integer not null default 0,
  -- Not before this time, by the workers' clock; at once by default, whatever the clocks say.
  run_at timestamptz not null default '-infinity',
  -- Who runs it, and until when that is believed without a sign of life.
  lease uuid,
  leased_until timestamptz,
  -- The sweep that this job is a part of.
  sweep bigint,
  -- When a sweep was fanned out into one job a patient.
  fanned_at timestamptz,
  -- Why it failed, or why it is tried again; never a patient's data.
  reason text,
  created_at timestamptz not null default now(),
  unique (tenant, index, patient, xid),
  check ((state = 'running') = (lease is not null and leased_until is not null))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- One worker at a time on a patient, whatever two claims at the same instant see.
create unique index job_running on bonfire.job (tenant, index, patient) where state = 'running';
create index job_waiting on bonfire.job (priority, run_at, id) where state = 'waiting';
create index job_leased on bonfire.job (leased_until) where state = 'running';
create index job_sweep on bonfire.job (sweep) where sweep is not null;

comment on table bonfire.job is
  'Work for an index: look again at the records of one patient, or of all of a tenant.';

-- The agent context: what is known of a patient, compact, with the sources of each statement.
create table bonfire.agent_context (
  tenant text not null default bonfire.current_tenant(),
  patient text not null,
  -- Counts the rebuilds that changed the document.
  version bigint not null default 1,
  document jsonb not null,
  -- The newest version id (txid) among the records that it was made from.
  txid bigint not null,
  -- Every transaction below this one is in the document.
  complete_to xid8 not null,
  built_at timestamptz not null,
  primary key (tenant, patient)
);

comment on table bonfire.agent_context is
  'One compact document a patient for a language model, rebuilt by the agentContext lane.';

alter table bonfire.job enable row level security;
alter table bonfire.agent_context enable row level security;
create policy tenant on bonfire.job using (tenant = bonfire.current_tenant());
create policy tenant on bonfire.agent_context using (tenant = bonfire.current_tenant());

grant select on bonfire.index to bonfire_app;
grant select, insert, update, delete on bonfire.job to bonfire_app;
grant select, insert, update, delete on bonfire.agent_context to bonfire_app;

-- Queues a job for each index made from `source`, per patient touched (null: everybody's, so one sweep), and notes
-- the indexes in `bonfire.pending`. The triggers of the read models call it once per statement: with no index on,
-- it costs one look at a table of a few rows.
create function bonfire.after_touch(tenant text, source text, patients text[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  wanted text[];
  mutation text;
begin
  select array_agg(i.name order by i.name) into wanted
  from bonfire.index i where i.enabled and after_touch.source = any (i.sources);
  if wanted is null or cardinality(patients) = 0 then
    return;
  end if;

  if 'bonfire_app' in (current_setting('role'), session_user) and tenant is distinct from bonfire.current_tenant() then
    raise insufficient_privilege using message = 'work can be queued in the current tenant only';
  end if;

  mutation := nullif(current_setting('bonfire.mutation', true), '');
  insert into bonfire.job (tenant, index, patient, mutations)
  select after_touch.tenant, w.name, p.patient, array_remove(array[mutation], null)
  from unnest(wanted) w (name) cross join unnest(coalesce(patients, array['*'])) p (patient)
  on conflict do nothing;

  perform set_config('bonfire.pending', string_agg(name, ',' order by name), true)
  from (
    select unnest(wanted) as name
    union
    select unnest(string_to_array(nullif(current_setting('bonfire.pending', true), ''), ','))
  ) names;
end
$$;

comment on function bonfire.after_touch(text, text, text[]) is
  'Queues work for the indexes after a statement that wrote records of these patients (null: of everybody).';
