-- Access: what may be asked of a row, which rows a transaction sees, who is related to whom, and the tenants' policies.

-- ---- facets --------------------------------------------------------------------------------------------------------

-- The same ids as before, at a fifth of the cost where a reference is spelled as it mostly is: this is run for each row that is
-- written, and for each that a caller of limited rights looks at.
create or replace function bonfire.ref_id(reference text, type text) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  rest text;
begin
  if starts_with(reference, type || '/') then
    rest := substr(reference, length(type) + 2);
    if rest <> '' and strpos(rest, '/') = 0 and strpos(rest, '?') = 0 and strpos(rest, '#') = 0 then
      return rest;
    end if;
  elsif strpos(reference, type || '/') = 0 then
    return null;
  end if;
  return substring(reference from '(?:^|/)' || type || '/([^/?#]+)(?:/_history/[^/?#]+)?$');
end
$$;

-- The users that a Reference names, or an array of them: by an identifier of the system urn:bonfire:user, and by
-- `Practitioner/<id>`.
create function bonfire.users_named(people jsonb) returns text[]
language plpgsql immutable strict parallel safe
as $$
declare
  found jsonb := jsonb_path_query_array(
    people, '$.identifier ? (@.system == "urn:bonfire:user").value ? (@.type() == "string" && @ != "")');
  users text[] := '{}';
begin
  for place in 0 .. jsonb_array_length(found) - 1 loop
    users := users || (found ->> place);
  end loop;
  found := jsonb_path_query_array(people, '$.reference ? (@.type() == "string")');
  for place in 0 .. jsonb_array_length(found) - 1 loop
    users := users || bonfire.ref_id(found ->> place, 'Practitioner');
  end loop;
  return array_remove(users, null);
end
$$;

-- What a policy may ask of a record, in short words (docs/access.md). It is run for each row that a caller of limited rights
-- looks at, so nothing is read that is not there; and it never fails: what is not as FHIR has it says nothing.
create function bonfire.facets(resource_type text, id text, resource jsonb) returns text[]
language plpgsql immutable parallel safe cost 200
as $$
declare
  words text[] := array['type:' || coalesce(resource_type, '')];
  found jsonb;
  named text;
  authored boolean := false;
begin
  -- Unpacked here, once: each look into a packed value unpacks all of it.
  resource := resource || '{}';
  words := words || ('patient:' || coalesce(bonfire.patient_of(resource_type, id, resource), ''));
  if (resource ? 'docStatus' and resource ->> 'docStatus' = 'preliminary' and resource ->> 'status' = 'current')
    or (resource_type = 'Composition' and resource ->> 'status' = 'preliminary')
  then
    words := words || text 'draft:true';
  else
    words := words || text 'draft:false';
  end if;
  if resource ? 'meta' then
    found := jsonb_path_query_array(resource, '$.meta.security.code ? (@.type() == "string" && @ != "")');
    for place in 0 .. jsonb_array_length(found) - 1 loop
      words := words || ('label:' || (found ->> place));
    end loop;
  end if;
  if cardinality(words) = 3 then
    words := words || text 'label:';
  end if;
  if resource ? 'category' then
    found := jsonb_path_query_array(resource, '$.category.coding.code ? (@.type() == "string")');
    for place in 0 .. jsonb_array_length(found) - 1 loop
      words := words || ('category:' || (found ->> place));
    end loop;
  end if;
  if resource ?| '{author,recorder,requester,performer,asserter,sender,authenticator}' then
    for part in 1 .. 7 loop
      found := resource -> ('{author,recorder,requester,performer,asserter,sender,authenticator}'::text[])[part];
      continue when found is null;
      if jsonb_typeof(found) = 'array' and jsonb_array_length(found) = 1 and jsonb_typeof(found -> 0) = 'object' then
        found := found -> 0;
      end if;
      if jsonb_typeof(found) = 'object' and jsonb_typeof(found -> 'reference') = 'string' and not found ?| '{identifier,actor}'
      then
        -- As it mostly is, at a quarter of the cost.
        named := bonfire.ref_id(found ->> 'reference', 'Practitioner');
        if named is not null then
          words := words || ('author:' || named);
          authored := true;
        end if;
        continue;
      end if;
      if part = 4 and jsonb_path_exists(found, '$.actor') then
        -- Some types say beside each performer in which role: the person is one level down.
        found := jsonb_path_query_array(jsonb_build_array(found, jsonb_path_query_array(found, '$.actor')), '$[*][*]');
      end if;
      foreach named in array bonfire.users_named(found) loop
        words := words || ('author:' || named);
        authored := true;
      end loop;
    end loop;
  end if;
  if not authored then
    words := words || text 'author:';
  end if;
  return words;
end
$$;

comment on function bonfire.facets(text, text, jsonb) is
  'What a policy may ask of a record: words like type:Observation, patient:p1, label:R (docs/access.md lists them).';

-- The same of a document of app state.
create function bonfire.app_state_facets(collection text, owner text, patient text) returns text[]
language sql immutable parallel safe
return array['type:AppState', 'patient:' || coalesce(patient, ''), 'draft:false', 'label:', 'category:' || collection]
  || array['author:' || coalesce(owner, '')];

-- ---- reach ---------------------------------------------------------------------------------------------------------

-- Whether this transaction sees all of its tenant. A plain expression, so that it costs a row next to nothing.
create function bonfire.sees_all() returns boolean
language sql stable parallel safe
return coalesce(current_setting('bonfire.reach', true) = 'all', false);

-- The clauses of this transaction's reach, which the setting has as store/reach.py spells them: the words of each list as the
-- keys of an object, where they are looked up and not searched for. No clauses where it is not set; what has been
-- spelled wrongly is an error, which shows nothing either.
create function bonfire.reach() returns jsonb
language sql stable parallel safe
return (
  select coalesce(jsonb_agg(jsonb_build_object(
    'groups', (
      select coalesce(jsonb_agg((
        select coalesce(jsonb_object_agg(g.word, 0), '{}') from jsonb_array_elements_text(s.words) g (word)
      )), '[]')
      from jsonb_array_elements(c.clause -> 'groups') s (words)
    ),
    'without', (
      select coalesce(jsonb_object_agg(w.word, 0), '{}') from jsonb_array_elements_text(c.clause -> 'without') w (word)
    )
  )), '[]')
  from jsonb_array_elements(case
    when starts_with(current_setting('bonfire.reach', true), '[') then current_setting('bonfire.reach', true)::jsonb
    else '[]'
  end) c (clause)
);

-- Whether a row with these facets is in `reach`: one of its clauses fits. Policies give it as `(select bonfire.reach())`, which is
-- read once a statement and not at each row.
create function bonfire.in_reach(facets text[], reach jsonb) returns boolean
language plpgsql immutable parallel safe cost 50
as $$
declare
  clause jsonb;
  fits boolean;
begin
  for place in 0 .. jsonb_array_length(reach) - 1 loop
    clause := reach -> place;
    continue when clause -> 'without' ?| facets;
    clause := clause -> 'groups';
    fits := true;
    for part in 0 .. jsonb_array_length(clause) - 1 loop
      fits := clause -> part ?| facets;
      exit when not fits;
    end loop;
    if fits then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- The same for a few rows: the reach is read for each.
create function bonfire.in_reach(facets text[]) returns boolean
language sql stable parallel safe
return bonfire.sees_all() or bonfire.in_reach(facets, case
  when starts_with(current_setting('bonfire.reach', true), '[') then current_setting('bonfire.reach', true)::jsonb
  else '[]'
end);

comment on function bonfire.in_reach(text[]) is
  'Whether a row with these facets may be seen by this transaction: the setting bonfire.reach says so.';

-- The facets of the agent context are those of the records that it was made from; of the documents that are there nobody knows
-- them. They are made anew, as the index has another build from here on.
delete from bonfire.agent_context;
alter table bonfire.agent_context add column facets text[] not null;

-- Rows are seen, changed and deleted in reach only. What is put in is bound by the tenant alone: what may be written is decided
-- before, from the record as it was and as it shall be, by the same policies (access/gate.py).
do $policies$
declare
  written record;
begin
  for written in
    select c.relname as name, 'bonfire.facets(resource_type, id, resource)' as facets, 'public' as schema
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
      and to_regclass(format('public.%I', regexp_replace(c.relname, '_history$', '') || '_history')) is not null
      and to_regclass(format('public.%I', regexp_replace(c.relname, '_history$', ''))) is not null
    union all
    select 'app_state', 'bonfire.app_state_facets(collection, owner, patient)', 'bonfire'
    union all
    select 'agent_context', 'facets', 'bonfire'
  loop
    execute format(
      $sql$
      alter policy tenant on %I.%I
      using (
        tenant = bonfire.current_tenant() and (bonfire.sees_all() or bonfire.in_reach(%s, (select bonfire.reach())))
      )
      with check (tenant = bonfire.current_tenant())
      $sql$,
      written.schema, written.name, written.facets
    );
  end loop;
end
$policies$;

-- These read with the owner's rights, past the policies, so they ask for themselves.

-- A patient's documents that are current, each with its version.
create or replace function bonfire.patient_documents(patient text)
returns table (id text, txid bigint, resource jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select r.id, r.txid, r.resource
  from public.documentreference r
  where r.tenant = bonfire.current_tenant()
    and bonfire.patient_of('DocumentReference', r.id, r.resource) = patient_documents.patient
    and (bonfire.sees_all()
      or bonfire.in_reach(bonfire.facets('DocumentReference', r.id, r.resource), (select bonfire.reach())))
    and r.resource ->> 'status' = 'current' and coalesce(r.resource ->> 'docStatus', 'final') <> 'entered-in-error';
end;

-- The records that the agent context is made from, section by section in order: up to `listed` of what holds (problems,
-- medications, allergies, kinds of scores with the last two of each), the `recent` last encounters and notes. `total` says how
-- many the section has in all; `medication` is the code of the Medication that a record refers to.
create or replace function bonfire.chart(patient text, listed integer, recent integer)
returns table (
  section text, resource_type text, id text, txid bigint, resource jsonb, total bigint, medication jsonb
)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
  select 'patient', 'Patient', r.id, r.txid, r.resource, 1, null::jsonb
  from public.patient r
  where r.tenant = bonfire.current_tenant() and r.id = chart.patient
    and (bonfire.sees_all()
      or bonfire.in_reach(bonfire.facets('Patient', r.id, r.resource), (select bonfire.reach())))

  union all
  (
    select 'problems', 'Condition', r.id, r.txid, r.resource, count(*) over (), null
    from public.condition r
    where r.tenant = bonfire.current_tenant() and bonfire.patient_of('Condition', r.id, r.resource) = chart.patient
      and (bonfire.sees_all()
        or bonfire.in_reach(bonfire.facets('Condition', r.id, r.resource), (select bonfire.reach())))
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
        and (bonfire.sees_all()
          or bonfire.in_reach(bonfire.facets('MedicationRequest', r.id, r.resource), (select bonfire.reach())))
        and r.resource ->> 'status' in ('active', 'on-hold')
      union all
      select r.resource_type, r.id, r.txid, r.resource,
        coalesce(r.resource ->> 'effectiveDateTime', r.resource #>> '{effectivePeriod,start}', r.resource ->> 'dateAsserted')
      from public.medicationstatement r
      where r.tenant = bonfire.current_tenant()
        and bonfire.patient_of('MedicationStatement', r.id, r.resource) = chart.patient
        and (bonfire.sees_all()
          or bonfire.in_reach(bonfire.facets('MedicationStatement', r.id, r.resource), (select bonfire.reach())))
        and r.resource ->> 'status' in ('active', 'intended', 'on-hold')
    ) m
    left join public.medication named on named.tenant = bonfire.current_tenant()
      and named.id = bonfire.ref_id(m.resource #>> '{medicationReference,reference}', 'Medication')
      and (bonfire.sees_all()
        or bonfire.in_reach(bonfire.facets('Medication', named.id, named.resource), (select bonfire.reach())))
    order by bonfire.instant(m.since) desc nulls last, m.id
    limit chart.listed
  )
  union all
  (
    select 'allergies', 'AllergyIntolerance', r.id, r.txid, r.resource, count(*) over (), null
    from public.allergyintolerance r
    where r.tenant = bonfire.current_tenant()
      and bonfire.patient_of('AllergyIntolerance', r.id, r.resource) = chart.patient
      and (bonfire.sees_all()
        or bonfire.in_reach(bonfire.facets('AllergyIntolerance', r.id, r.resource), (select bonfire.reach())))
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
          and (bonfire.sees_all()
            or bonfire.in_reach(bonfire.facets('Observation', r.id, r.resource), (select bonfire.reach())))
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
      and (bonfire.sees_all()
        or bonfire.in_reach(bonfire.facets('Encounter', r.id, r.resource), (select bonfire.reach())))
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

-- A piece of a note is seen by whoever sees the note: the policy of the notes decides, on them as they are now.
do $chunks$
begin
  if to_regclass('bonfire.note_chunk') is not null then
    alter policy tenant on bonfire.note_chunk
    using (
      tenant = bonfire.current_tenant() and (bonfire.sees_all() or exists (
        select from public.documentreference d where d.tenant = bonfire.current_tenant() and d.id = note
      ))
    )
    with check (tenant = bonfire.current_tenant());
  end if;
end
$chunks$;

-- An answer holds what its caller was told: it is read by who does that mutation again, by its id (begin_mutation says which it
-- is), and in no other way. A job is bound by the tenant alone: it names an index and a patient, nothing of a record, and is
-- the server's own.
alter policy tenant on bonfire.mutation
using (
  tenant = bonfire.current_tenant() and (bonfire.sees_all() or id = current_setting('bonfire.mutation', true))
)
with check (tenant = bonfire.current_tenant());

-- Nobody but the owner reads or writes these; they have a tenant, so they are bound by it like the rest.
alter table bonfire.read_group enable row level security;
create policy tenant on bonfire.read_group using (tenant = bonfire.current_tenant());

-- ---- relations -----------------------------------------------------------------------------------------------------

-- How users are related to patients, as far as policies ask: each reason that there is for it is a row.
create table bonfire.relation (
  tenant text not null default bonfire.current_tenant(),
  user_id text not null check (user_id <> ''),
  kind text not null check (kind in ('careTeam', 'breakGlass', 'refused', 'suspended')),
  -- '*', which is no FHIR id: everybody.
  patient text not null check (patient <> ''),
  -- The record that says so (`CareTeam/<id>`, `Consent/<id>`), or the id of who granted it once.
  source text not null,
  -- From when on it does not hold any more; null: as long as its source says so.
  until timestamptz,
  reason text,
  granted_by text,
  at timestamptz not null default statement_timestamp(),
  primary key (tenant, user_id, kind, patient, source),
  check ((kind = 'suspended') = (patient = '*'))
);

create index relation_source on bonfire.relation (tenant, source);
create index relation_until on bonfire.relation (until) where until is not null;

comment on table bonfire.relation is
  'How users are related to patients: care teams and refused consents (kept by triggers), broken glass, suspensions.';

-- The policies of a tenant, version by version. The newest is in force; without one, those that bonfire comes with are.
create table bonfire.policy (
  tenant text not null default bonfire.current_tenant(),
  version bigint not null check (version > 0),
  text text not null,
  author text not null,
  reason text not null,
  at timestamptz not null default statement_timestamp(),
  primary key (tenant, version)
);

comment on table bonfire.policy is 'The policies of each tenant, version by version; the newest is in force.';

alter table bonfire.relation enable row level security;
alter table bonfire.policy enable row level security;
create policy tenant on bonfire.relation using (tenant = bonfire.current_tenant());
create policy tenant on bonfire.policy using (tenant = bonfire.current_tenant());
-- Who may do so is decided by the gate.
grant select, insert, update, delete on bonfire.relation to bonfire_app;
grant select, insert on bonfire.policy to bonfire_app;

-- All that is asked of the database about one user, in one spelling. Of several reasons for one relation the longest counts. It
-- is volatile, so that it reads by a snapshot of its own: a mutation asks in the statement in which it has waited for its turn.
create function bonfire.access_facts(user_id text) returns json
language sql volatile
return json_build_object(
  'relations', (
    select coalesce(
      json_agg(json_build_object('kind', f.kind, 'patient', f.patient, 'until', f.until)
        order by f.kind collate "C", f.patient collate "C"), '[]')
    from (
      select r.kind, r.patient,
        case when count(*) = count(r.until) then extract(epoch from max(r.until))::float8 end as until
      from bonfire.relation r
      where r.tenant = bonfire.current_tenant() and r.user_id = access_facts.user_id
        and (r.until is null or r.until > statement_timestamp())
      group by r.kind, r.patient
    ) f
  ),
  'policies', (select coalesce(max(p.version), 0) from bonfire.policy p where p.tenant = bonfire.current_tenant())
);

comment on function bonfire.access_facts(text) is
  'What the database says of a user of the current tenant: relations to patients, and the version of the policies.';

-- When a Period ends: a partial date at the end of what it names. Null where it has no end; one that can't be read is past.
create function bonfire.period_end(period jsonb) returns timestamptz
language sql immutable parallel safe
return case
  when coalesce(jsonb_typeof(period -> 'end'), 'null') <> 'null' then coalesce(
    (bonfire.instant(period ->> 'end') at time zone 'UTC' + case length(period ->> 'end')
      when 4 then interval '1 year' when 7 then interval '1 month' when 10 then interval '1 day' else interval '0' end
    ) at time zone 'UTC',
    '-infinity')
end;

-- The relations that a record says there are, also those that have ended. An active CareTeam's participants are related to its
-- patient, from when they are written there until their period or the team's ends. A Consent that denies refuses all that it
-- names, whatever else it is limited to: less is seen than it may have meant, never more.
create function bonfire.relations_of(resource_type text, id text, resource jsonb)
returns table (user_id text, kind text, patient text, source text, until timestamptz)
language sql immutable parallel safe
begin atomic
  select n.user_id, n.kind, n.patient, relations_of.resource_type || '/' || relations_of.id,
    case when count(*) = count(n.until) then max(n.until) end
  from (
    select unnest(bonfire.users_named(m -> 'member')) as user_id, 'careTeam' as kind,
      bonfire.patient_of('CareTeam', relations_of.id, relations_of.resource) as patient,
      least(bonfire.period_end(m -> 'period'), bonfire.period_end(relations_of.resource -> 'period')) as until
    from jsonb_path_query(relations_of.resource, '$.participant[*]') m
    where relations_of.resource_type = 'CareTeam' and coalesce(relations_of.resource ->> 'status', 'active') = 'active'
    union all
    select unnest(bonfire.users_named(a -> 'reference')), 'refused',
      bonfire.patient_of('Consent', relations_of.id, relations_of.resource),
      -- An end that can't be read ends no refusal.
      nullif(bonfire.period_end(relations_of.resource #> '{provision,period}'), '-infinity')
    from jsonb_path_query(relations_of.resource, '$.provision.actor[*]') a
    where relations_of.resource_type = 'Consent' and relations_of.resource ->> 'status' = 'active'
      and relations_of.resource #>> '{provision,type}' = 'deny'
  ) n
  where n.user_id <> '' and n.patient is not null
  group by n.user_id, n.kind, n.patient;
end;

-- Brings the relations that these records are the source of to what the records say; a null says nothing any more. Only what
-- differs is written, so that a record that is saved without change tells nobody.
create function bonfire.put_relations(resource_type text, tenants text[], ids text[], resources jsonb[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
begin
  delete from bonfire.relation r
  using unnest(tenants, ids, resources) w (tenant, id, resource)
  where r.tenant = w.tenant and r.source = put_relations.resource_type || '/' || w.id
    and not exists (
      select from bonfire.relations_of(put_relations.resource_type, w.id, w.resource) n
      where n.user_id = r.user_id and n.kind = r.kind and n.patient = r.patient
        and (n.until is null or n.until > statement_timestamp())
    );
  insert into bonfire.relation as r (tenant, user_id, kind, patient, source, until)
  select w.tenant, n.user_id, n.kind, n.patient, n.source, n.until
  from unnest(tenants, ids, resources) w (tenant, id, resource)
  cross join bonfire.relations_of(put_relations.resource_type, w.id, w.resource) n
  where n.until is null or n.until > statement_timestamp()
  on conflict on constraint relation_pkey do update set until = excluded.until
  where r.until is distinct from excluded.until;
end
$$;

revoke execute on function bonfire.put_relations(text, text[], text[], jsonb[]) from public;

create function bonfire.derive_relations() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    perform bonfire.put_relations(
      tg_argv[0], array_agg(r.tenant), array_agg(r.id), array_fill(null::jsonb, array[count(*)::int]))
    from old_rows r having count(*) > 0;
  else
    perform bonfire.put_relations(tg_argv[0], array_agg(r.tenant), array_agg(r.id), array_agg(r.resource))
    from new_rows r having count(*) > 0;
  end if;
  return null;
end
$$;

-- After the history (bonfire_10_...), before what follows from the write (bonfire_20_...). The records that are there come first,
-- while nobody is told.
do $derived$
declare
  resource_type text;
begin
  foreach resource_type in array array['CareTeam', 'Consent'] loop
    execute format(
      $sql$
      insert into bonfire.relation (tenant, user_id, kind, patient, source, until)
      select r.tenant, n.user_id, n.kind, n.patient, n.source, n.until
      from public.%1$I r cross join bonfire.relations_of(%2$L, r.id, r.resource) n
      where n.until is null or n.until > statement_timestamp();
      create trigger bonfire_15_relations_insert after insert on public.%1$I
        referencing new table as new_rows for each statement execute function bonfire.derive_relations(%2$L);
      create trigger bonfire_15_relations_update after update on public.%1$I
        referencing new table as new_rows for each statement execute function bonfire.derive_relations(%2$L);
      create trigger bonfire_15_relations_delete after delete on public.%1$I
        referencing old table as old_rows for each statement execute function bonfire.derive_relations(%2$L);
      $sql$,
      lower(resource_type), resource_type
    );
  end loop;
end
$derived$;

-- Tells the live engine of whom what they may see may have changed: who is named in what a statement wrote; '*', everybody,
-- where they are more than 1000, and of policies.
do $told$
declare
  told record;
begin
  for told in
    select * from (values ('relation', 'r.user_id'), ('policy', 'text ''*''')) tables (name, who)
    cross join (values
      ('insert', 'new_rows', 'new table as new_rows'),
      ('update', '(select * from old_rows union all select * from new_rows)', 'old table as old_rows new table as new_rows'),
      ('delete', 'old_rows', 'old table as old_rows')
    ) events (event, rows, transitions)
  loop
    execute format(
      $sql$
      create function bonfire.tell_%1$s_%3$s() returns trigger
      language plpgsql security definer set search_path = pg_catalog, pg_temp
      as $body$
      begin
        perform bonfire.emit(json_build_object(
          'tenant', w.tenant, 'access', case when cardinality(w.users) > 1000 then array['*'] else w.users end)::text)
        from (select r.tenant, array_agg(distinct %2$s) as users from %4$s r group by r.tenant) w;
        return null;
      end
      $body$;
      create trigger bonfire_20_tell_%3$s after %3$s on bonfire.%1$I
        referencing %5$s for each statement execute function bonfire.tell_%1$s_%3$s();
      $sql$,
      told.name, told.who, told.event, told.rows, told.transitions
    );
  end loop;
end
$told$;

-- TRUNCATE fires no trigger for its rows: they are deleted first, as records are.
create trigger bonfire_00_truncate before truncate on bonfire.relation
  for each statement execute function bonfire.before_record_truncate();
create trigger bonfire_00_truncate before truncate on bonfire.policy
  for each statement execute function bonfire.before_record_truncate();

-- Takes away the relations that have ended by themselves, of all tenants; returns how many. Whoever reads them has left them out
-- since, but nobody is told by the clock: this tells. One node at a time does it.
create function bonfire.end_relations() returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  ended bigint;
begin
  if not pg_try_advisory_xact_lock(1651469926, 5) then
    return 0;
  end if;
  delete from bonfire.relation where until <= statement_timestamp();
  get diagnostics ended = row_count;
  return ended;
end
$$;

revoke execute on function bonfire.end_relations() from public;
