-- Records: one table of current records and one of history per FHIR R4 type; every version is kept, whoever writes.

create schema if not exists bonfire;

-- The server's role: it owns nothing, so row-level security binds it. Roles belong to the whole cluster, so another
-- database's migration may be making the same one at this moment.
do $role$
begin
  if not exists (select from pg_roles where rolname = 'bonfire_app') then
    begin
      create role bonfire_app nologin;
    exception
      when duplicate_object or unique_violation then
        null;
      when insufficient_privilege then
        raise exception 'the role % may not create the role bonfire_app, which bonfire needs', current_user
          using errcode = 'insufficient_privilege',
                hint = format('Let an administrator run: CREATE ROLE bonfire_app NOLOGIN; GRANT bonfire_app TO %I;', current_user);
    end;
  end if;
  if not pg_has_role(current_user, 'bonfire_app', case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end) then
    begin
      execute format('grant bonfire_app to %I', current_user);
    exception
      when insufficient_privilege then
        raise exception 'the role % may not act as the role bonfire_app, which bonfire needs', current_user
          using errcode = 'insufficient_privilege',
                hint = format('Let an administrator run: GRANT bonfire_app TO %I;', current_user);
    end;
  end if;
end
$role$;

grant usage on schema bonfire to bonfire_app;
grant usage on schema public to bonfire_app;

create sequence public.transaction_id_seq as bigint;
grant usage on sequence public.transaction_id_seq to bonfire_app;

create type public.resource_status as enum ('created', 'updated', 'deleted', 'recreated');

-- The tenant that this transaction acts for. Stable and a plain expression, so that the planner folds it into the
-- index condition of every row-level policy.
create function bonfire.current_tenant() returns text
language sql stable parallel safe
return coalesce(nullif(current_setting('bonfire.tenant', true), ''), 'default');

-- The next version id of a record whose newest version is `latest`: from the one sequence, but never behind that
-- version, also where versions were imported with numbers that the sequence has not reached.
create function bonfire.next_txid(latest bigint) returns bigint
language sql volatile
return greatest(nextval('public.transaction_id_seq'), latest + 1);

-- The resource as it is stored: without what the columns hold (id, resourceType, meta.versionId, meta.lastUpdated).
create function bonfire.bare_resource(resource_type text, resource jsonb) returns jsonb
language plpgsql immutable parallel safe
as $$
begin
  if resource is null then
    return null;
  end if;
  if jsonb_typeof(resource) <> 'object' then
    raise exception 'a resource is a JSON object, and this is %', jsonb_typeof(resource)
      using errcode = 'check_violation';
  end if;
  if resource ? 'resourceType' then
    if resource ->> 'resourceType' is distinct from resource_type then
      raise exception 'the table of % takes no resource of another type', resource_type
        using errcode = 'check_violation';
    end if;
    resource := resource - 'resourceType';
  end if;
  if resource ? 'id' then
    resource := resource - 'id';
  end if;
  if jsonb_typeof(resource -> 'meta') <> 'object' then
    raise exception 'the meta of a resource is a JSON object'
      using errcode = 'check_violation';
  end if;
  if (resource -> 'meta') ?| '{versionId,lastUpdated}' then
    if (resource -> 'meta') - '{versionId,lastUpdated}'::text[] = '{}' then
      resource := resource - 'meta';
    else
      resource := resource || jsonb_build_object('meta', (resource -> 'meta') - '{versionId,lastUpdated}'::text[]);
    end if;
  end if;
  return resource;
end
$$;

-- An update is a new version: newer than the one before, of the same record.
create function bonfire.before_record_update() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if new.id is distinct from old.id or new.tenant is distinct from old.tenant then
    raise exception 'the id and the tenant of a record never change'
      using errcode = 'check_violation', table = tg_table_name,
            hint = 'Create a record with the new id, and delete the old one.';
  end if;
  if new.status = 'deleted' then
    raise exception 'a current record can not have the status deleted'
      using errcode = 'check_violation', table = tg_table_name, column = 'status',
            hint = 'DELETE the row: its last version and a tombstone go to the history.';
  end if;
  new.resource_type := tg_argv[0];
  new.resource := bonfire.bare_resource(tg_argv[0], new.resource);
  new.status := 'updated';
  new.cts := coalesce(new.cts, old.cts);
  new.xid := pg_current_xact_id();
  if new.txid is null or new.txid <= old.txid then
    new.txid := bonfire.next_txid(old.txid);
  end if;
  if new.ts is null or new.ts = old.ts then
    new.ts := greatest(statement_timestamp(), old.ts);
  end if;
  return new;
end
$$;

-- TRUNCATE fires no trigger for its rows, so they are deleted first, with history and tombstones.
create function bonfire.before_record_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('delete from %I.%I', tg_table_schema, tg_table_name);
  return null;
end
$$;

-- Makes both tables of a type, with their triggers, policies and grants. The trigger functions are made per type, because a
-- static statement in PL/pgSQL is planned once a session and a dynamic one at each call.
create function bonfire.create_record_tables(resource_type text) returns void
language plpgsql
as $create$
declare
  current_table text := lower(resource_type);
  history_table text := lower(resource_type) || '_history';
begin
  execute format(
    $sql$
    create table public.%1$I (
      id text not null,
      txid bigint not null default nextval('public.transaction_id_seq'),
      ts timestamptz not null,
      cts timestamptz not null,
      resource_type text not null default %3$L,
      status public.resource_status not null default 'created',
      resource jsonb not null,
      tenant text not null default bonfire.current_tenant(),
      xid xid8 not null,
      primary key (tenant, id)
    );
    create table public.%2$I (
      id text not null,
      txid bigint not null default nextval('public.transaction_id_seq'),
      ts timestamptz not null,
      cts timestamptz not null,
      resource_type text not null default %3$L,
      status public.resource_status not null,
      resource jsonb not null,
      tenant text not null default bonfire.current_tenant(),
      xid xid8 not null,
      primary key (tenant, id, txid)
    );
    create index on public.%1$I (tenant, xid, txid);
    create index on public.%2$I (tenant, xid, txid);

    alter table public.%1$I enable row level security;
    alter table public.%2$I enable row level security;
    create policy tenant on public.%1$I using (tenant = bonfire.current_tenant());
    create policy tenant on public.%2$I using (tenant = bonfire.current_tenant());
    grant select, insert, update, delete on public.%1$I to bonfire_app;
    grant select on public.%2$I to bonfire_app;
    $sql$,
    current_table, history_table, resource_type
  );

  -- A record is created, or recreated after its tombstone.
  execute format(
    $sql$
    create function bonfire.%1$I() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $body$
    declare
      latest record;
    begin
      if new.status = 'deleted' then
        raise exception 'a current record can not have the status deleted'
          using errcode = 'check_violation', table = tg_table_name, column = 'status',
                hint = 'Tombstones belong to the table ' || tg_table_name || '_history.';
      end if;
      new.id := coalesce(new.id, new.resource ->> 'id', gen_random_uuid()::text);
      new.tenant := coalesce(new.tenant, bonfire.current_tenant());
      new.resource_type := %3$L;
      new.resource := bonfire.bare_resource(%3$L, new.resource);
      new.status := coalesce(new.status, 'created');
      new.xid := pg_current_xact_id();
      select h.txid, h.ts, h.cts, h.status into latest
      from public.%2$I h
      where h.tenant = new.tenant and h.id = new.id
      order by h.txid desc
      limit 1;
      if found then
        if new.status = 'created' and latest.status = 'deleted' then
          new.status := 'recreated';
        end if;
        if new.txid is null or new.txid <= latest.txid then
          new.txid := bonfire.next_txid(latest.txid);
        end if;
        new.ts := coalesce(new.ts, greatest(statement_timestamp(), latest.ts));
        new.cts := coalesce(new.cts, latest.cts);
      else
        new.txid := coalesce(new.txid, nextval('public.transaction_id_seq'));
        new.ts := coalesce(new.ts, statement_timestamp());
        new.cts := coalesce(new.cts, new.ts);
      end if;
      return new;
    end
    $body$;
    $sql$,
    current_table || '_before_insert', history_table, resource_type
  );

  -- An insert may have waited for the delete of the same record to commit, and then has not seen its tombstone.
  execute format(
    $sql$
    create function bonfire.%1$I() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
    as $body$
    begin
      if exists (
        select from new_rows n
        join public.%2$I h on h.tenant = n.tenant and h.id = n.id
        where h.txid >= n.txid or (h.status = 'deleted' and n.status = 'created')
      ) then
        raise exception 'a record that this statement creates was deleted at the same moment'
          using errcode = 'serialization_failure', hint = 'Run the transaction again.';
      end if;
      return null;
    end
    $body$;
    $sql$,
    current_table || '_after_insert', history_table
  );

  -- What an update replaces goes to the history; who has archived it by hand has put the same row there.
  execute format(
    $sql$
    create function bonfire.%1$I() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $body$
    begin
      insert into public.%2$I (id, txid, ts, cts, resource_type, status, resource, tenant, xid)
      select id, txid, ts, cts, resource_type, status, resource, tenant, xid from old_rows
      on conflict do nothing;
      return null;
    end
    $body$;
    $sql$,
    current_table || '_after_update', history_table
  );

  -- What a delete takes away goes to the history, followed by a tombstone, unless one was put there by hand.
  execute format(
    $sql$
    create function bonfire.%1$I() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off
    as $body$
    begin
      insert into public.%2$I (id, txid, ts, cts, resource_type, status, resource, tenant, xid)
      select id, txid, ts, cts, resource_type, status, resource, tenant, xid from old_rows
      on conflict do nothing;
      insert into public.%2$I (id, txid, ts, cts, resource_type, status, resource, tenant, xid)
      select o.id, bonfire.next_txid(o.txid), greatest(statement_timestamp(), o.ts), o.cts, o.resource_type, 'deleted',
             o.resource, o.tenant, pg_current_xact_id()
      from old_rows o
      where not exists (
        select from public.%2$I h
        where h.tenant = o.tenant and h.id = o.id and h.txid > o.txid and h.status = 'deleted'
      );
      return null;
    end
    $body$;
    $sql$,
    current_table || '_after_delete', history_table
  );

  -- A row put into the history by hand becomes the row that the database would have put there.
  execute format(
    $sql$
    create function bonfire.%1$I() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
    as $body$
    declare
      living public.%2$I;
    begin
      new.tenant := coalesce(new.tenant, bonfire.current_tenant());
      select * into living from public.%2$I c where c.tenant = new.tenant and c.id = new.id;
      if living.txid = new.txid then
        -- The current version itself, archived before an update or a delete.
        return living;
      end if;
      if living.txid is not null and new.status = 'deleted' then
        -- A tombstone before the delete that it is for: it repeats the record as it was last.
        new.resource := living.resource;
        new.cts := living.cts;
        new.xid := pg_current_xact_id();
        if new.txid < living.txid then
          new.txid := bonfire.next_txid(living.txid);
        end if;
        if new.ts is null or new.ts = living.ts then
          new.ts := greatest(statement_timestamp(), living.ts);
        end if;
      end if;
      new.resource_type := %3$L;
      new.resource := bonfire.bare_resource(%3$L, new.resource);
      new.ts := coalesce(new.ts, statement_timestamp());
      new.cts := coalesce(new.cts, new.ts);
      if new.xid is null or new.xid > pg_current_xact_id() then
        new.xid := pg_current_xact_id();
      end if;
      return new;
    end
    $body$;
    $sql$,
    history_table || '_before_insert', current_table, resource_type
  );

  -- Triggers of one event fire in the order of their names: history is kept before read models are told (bonfire_20_...).
  execute format(
    $sql$
    create trigger bonfire_00_insert before insert on public.%1$I
      for each row execute function bonfire.%3$I();
    create trigger bonfire_00_update before update on public.%1$I
      for each row execute function bonfire.before_record_update(%8$L);
    create trigger bonfire_00_truncate before truncate on public.%1$I
      for each statement execute function bonfire.before_record_truncate();
    create trigger bonfire_10_history_insert after insert on public.%1$I
      referencing new table as new_rows for each statement execute function bonfire.%4$I();
    create trigger bonfire_10_history_update after update on public.%1$I
      referencing old table as old_rows for each statement execute function bonfire.%5$I();
    create trigger bonfire_10_history_delete after delete on public.%1$I
      referencing old table as old_rows for each statement execute function bonfire.%6$I();
    create trigger bonfire_00_insert before insert on public.%2$I
      for each row execute function bonfire.%7$I();
    $sql$,
    current_table, history_table,
    current_table || '_before_insert', current_table || '_after_insert', current_table || '_after_update',
    current_table || '_after_delete', history_table || '_before_insert', resource_type
  );
end
$create$;

do $types$
declare
  resource_type text;
begin
  foreach resource_type in array regexp_split_to_array(btrim($list$
Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent
Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam
CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem
Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract
Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition
DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference
EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare
EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag
Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization
ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library
Linkage List Location Measure MeasureReport Media Medication MedicationAdministration MedicationDispense
MedicationKnowledge MedicationRequest MedicationStatement MedicinalProduct MedicinalProductAuthorization
MedicinalProductContraindication MedicinalProductIndication MedicinalProductIngredient
MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged
MedicinalProductPharmaceutical MedicinalProductUndesirableEffect MessageDefinition MessageHeader
MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition OperationDefinition
OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice
PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole Procedure Provenance
Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap
Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest
Task TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
  $list$, E' \n'), '\s+')
  loop
    perform bonfire.create_record_tables(resource_type);
  end loop;
end
$types$;
