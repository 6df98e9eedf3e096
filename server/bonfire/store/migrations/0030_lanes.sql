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

-- What the indexes read of a patient. Row-level security keeps expressions over `resource` from using an index, as they are not
-- leakproof: these functions look up with the owner's rights, in the current tenant only.
create index condition_patient on public.condition (tenant, bonfire.patient_of('Condition', id, resource));
create index medicationrequest_patient
  on public.medicationrequest (tenant, bonfire.patient_of('MedicationRequest', id, resource));
create index medicationstatement_patient
  on public.medicationstatement (tenant, bonfire.patient_of('MedicationStatement', id, resource));
create index allergyintolerance_patient
  on public.allergyintolerance (tenant, bonfire.patient_of('AllergyIntolerance', id, resource));
create index observation_patient on public.observation (tenant, bonfire.patient_of('Observation', id, resource));
create index encounter_patient on public.encounter (tenant, bonfire.patient_of('Encounter', id, resource));
create index documentreference_patient
  on public.documentreference (tenant, bonfire.patient_of('DocumentReference', id, resource));

-- A patient's documents that are current, each with its version.
create function bonfire.patient_documents(patient text)
returns table (id text, txid bigint, resource jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select r.id, r.txid, r.resource
  from public.documentreference r
  where r.tenant = bonfire.current_tenant()
    and bonfire.patient_of('DocumentReference', r.id, r.resource) = patient_documents.patient
    and r.resource ->> 'status' = 'current' and coalesce(r.resource ->> 'docStatus', 'final') <> 'entered-in-error';
end;

-- The records that the agent context is made from, section by section in order: up to `listed` of what holds (problems,
-- medications, allergies, kinds of scores with the last two of each), the `recent` last encounters and notes. `total` says how
-- many the section has in all; `medication` is the code of the Medication that a record refers to.
create function bonfire.chart(patient text, listed integer, recent integer)
returns table (
  section text, resource_type text, id text, txid bigint, resource jsonb, total bigint, medication jsonb
)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select 'patient', 'Patient', r.id, r.txid, r.resource, 1, null::jsonb
  from public.patient r
  where r.tenant = bonfire.current_tenant() and r.id = chart.patient

  union all
  (
    select 'problems', 'Condition', r.id, r.txid, r.resource, count(*) over (), null
    from public.condition r
    where r.tenant = bonfire.current_tenant() and bonfire.patient_of('Condition', r.id, r.resource) = chart.patient
      and coalesce(r.resource #>> '{clinicalStatus,coding,0,code}', 'active') in ('active', 'recurrence', 'relapse')
      and coalesce(r.resource #>> '{verificationStatus,coding,0,code}', '') not in ('entered-in-error', 'refuted')
    order by bonfire.instant(coalesce(r.resource ->> 'onsetDateTime', r.resource ->> 'recordedDate')) desc nulls last, r.id
    limit chart.listed
  )
  union all
  (
    select 'medications', m.resource_type, m.id, m.txid, m.resource, count(*) over (), named.resource -> 'code'
    from (
      select r.resource_type, r.id, r.txid, r.resource, r.resource ->> 'authoredOn' as since
      from public.medicationrequest r
      where r.tenant = bonfire.current_tenant()
        and bonfire.patient_of('MedicationRequest', r.id, r.resource) = chart.patient
        and r.resource ->> 'status' in ('active', 'on-hold')
      union all
      select r.resource_type, r.id, r.txid, r.resource,
        coalesce(r.resource ->> 'effectiveDateTime', r.resource #>> '{effectivePeriod,start}', r.resource ->> 'dateAsserted')
      from public.medicationstatement r
      where r.tenant = bonfire.current_tenant()
        and bonfire.patient_of('MedicationStatement', r.id, r.resource) = chart.patient
        and r.resource ->> 'status' in ('active', 'intended', 'on-hold')
    ) m
    left join public.medication named on named.tenant = bonfire.current_tenant()
      and named.id = bonfire.ref_id(m.resource #>> '{medicationReference,reference}', 'Medication')
    order by bonfire.instant(m.since) desc nulls last, m.id
    limit chart.listed
  )
  union all
  (
    select 'allergies', 'AllergyIntolerance', r.id, r.txid, r.resource, count(*) over (), null
    from public.allergyintolerance r
    where r.tenant = bonfire.current_tenant()
      and bonfire.patient_of('AllergyIntolerance', r.id, r.resource) = chart.patient
      and coalesce(r.resource #>> '{clinicalStatus,coding,0,code}', 'active') = 'active'
      and coalesce(r.resource #>> '{verificationStatus,coding,0,code}', '') not in ('entered-in-error', 'refuted')
    order by r.resource ->> 'criticality' nulls last, r.id
    limit chart.listed
  )
  union all
  (
    select 'scores', 'Observation', s.id, s.txid, s.resource, s.total, null
    from (
      select n.*, count(*) filter (where n.nth = 1) over () as total
      from (
        select r.id, r.txid, r.resource, taken.code,
          row_number() over (partition by taken.code order by taken.at desc nulls last, r.txid desc) as nth,
          max(taken.at) over (partition by taken.code) as latest
        from public.observation r
        cross join lateral (
          select coalesce(r.resource #>> '{code,coding,0,code}', r.resource #>> '{code,text}') as code,
            bonfire.instant(coalesce(
              r.resource ->> 'effectiveDateTime', r.resource #>> '{effectivePeriod,start}', r.resource ->> 'issued')) as at
        ) taken
        where r.tenant = bonfire.current_tenant()
          and bonfire.patient_of('Observation', r.id, r.resource) = chart.patient
          and r.resource @> '{"category": [{"coding": [{"code": "survey"}]}]}'
          and r.resource ?| '{valueQuantity,valueInteger}'
          and r.resource ->> 'status' in ('final', 'amended', 'corrected', 'preliminary')
      ) n
    ) s
    where s.nth <= 2
    order by s.latest desc nulls last, s.code, s.nth
    limit 2 * chart.listed
  )
  union all
  (
    select 'encounters', 'Encounter', r.id, r.txid, r.resource, count(*) over (), null
    from public.encounter r
    where r.tenant = bonfire.current_tenant() and bonfire.patient_of('Encounter', r.id, r.resource) = chart.patient
      and r.resource ->> 'status' not in ('cancelled', 'entered-in-error')
    order by bonfire.instant(r.resource #>> '{period,start}') desc nulls last, r.id
    limit chart.recent
  )
  union all
  (
    select 'notes', 'DocumentReference', r.id, r.txid, r.resource, count(*) over (), null
    from bonfire.patient_documents(chart.patient) r
    order by bonfire.instant(r.resource ->> 'date') desc nulls last, r.id
    limit chart.recent
  );
end;

revoke execute on function bonfire.patient_documents(text), bonfire.chart(text, integer, integer) from public;
grant execute on function bonfire.patient_documents(text), bonfire.chart(text, integer, integer) to bonfire_app;

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
