-- FHIR in SQL: a record's whole resource, whose record it is, references and dates.

-- An instant as FHIR and the messages spell it: UTC, six decimals, fixed width, so that text order is time order.
create function bonfire.instant_text(at timestamptz) returns text
language sql stable strict parallel safe
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The whole FHIR resource of a stored row: what was put in, with id, resourceType and meta back in their places.
create function bonfire.fhir(resource_type text, id text, txid bigint, ts timestamptz, resource jsonb) returns jsonb
language sql stable parallel safe
return resource || jsonb_build_object(
  'resourceType', resource_type,
  'id', id,
  'meta', coalesce(resource -> 'meta', '{}') || jsonb_build_object('versionId', txid::text, 'lastUpdated', bonfire.instant_text(ts))
);

-- The id in a literal reference to a resource of this type: 'Patient/1', '.../fhir/Patient/1', with or without
-- '/_history/2'. Null for references to other types, and for those that name no id (urn:uuid, conditional, '#...').
create function bonfire.ref_id(reference text, type text) returns text
language sql immutable parallel safe
return substring(reference from '(?:^|/)' || type || '/([^/?#]+)(?:/_history/[^/?#]+)?$');

-- The patient whose record this is: the one element by which R4's patient compartment holds a resource of this
-- type. Where the element repeats (Account, Appointment), the first patient in it. Null when it is nobody's.
create function bonfire.patient_of(resource_type text, id text, resource jsonb) returns text
language sql immutable parallel safe
return case
  when resource_type = 'Patient' then id
  when resource_type = 'Coverage' then bonfire.ref_id(resource #>> '{beneficiary,reference}', 'Patient')
  when resource_type = 'Task' then bonfire.ref_id(resource #>> '{for,reference}', 'Patient')
  when resource_type = 'ResearchSubject' then bonfire.ref_id(resource #>> '{individual,reference}', 'Patient')
  when resource_type = 'EnrollmentRequest' then bonfire.ref_id(resource #>> '{candidate,reference}', 'Patient')
  when resource_type = 'AppointmentResponse' then bonfire.ref_id(resource #>> '{actor,reference}', 'Patient')
  when resource_type = 'SupplyRequest' then bonfire.ref_id(resource #>> '{deliverTo,reference}', 'Patient')
  when resource_type = 'Account' then bonfire.ref_id(
    jsonb_path_query_first(resource, '$.subject[*].reference ? (@ like_regex "(^|/)Patient/")') #>> '{}', 'Patient')
  when resource_type = 'Appointment' then bonfire.ref_id(
    jsonb_path_query_first(resource, '$.participant[*].actor.reference ? (@ like_regex "(^|/)Patient/")') #>> '{}', 'Patient')
  else coalesce(
    bonfire.ref_id(resource #>> '{subject,reference}', 'Patient'),
    bonfire.ref_id(resource #>> '{patient,reference}', 'Patient'))
end;

-- A FHIR date, dateTime or instant as a point in time: a partial date is its start, a time without a zone is UTC.
-- Null for what is no such date, so that one bad value never stops a statement.
create function bonfire.instant(value text) returns timestamptz
language plpgsql immutable strict parallel safe
as $$
declare
  part text[] := regexp_match(value,
    '^(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01])(?:T([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d|60)(\.\d{1,9})?)?'
    '(?:Z|([+-])(0\d|1[0-4]):([0-5]\d))?)?)?)?$');
  year int := part[1]::int;
  month int := coalesce(part[2]::int, 1);
  day int := coalesce(part[3]::int, 1);
  shift interval;
begin
  if year is null or year = 0 or day > extract(day from make_date(year, month, 1) + interval '1 month - 1 day') then
    return null;
  end if;
  shift := make_interval(hours => coalesce(part[9]::int, 0), mins => coalesce(part[10]::int, 0));
  return (
    make_timestamp(year, month, day, coalesce(part[4]::int, 0), coalesce(part[5]::int, 0), coalesce(part[6], '0')::float8)
    -- Parsed apart from the whole seconds, and cut at the microsecond as Postgres keeps no more.
    + make_interval(secs => coalesce(left('0' || part[7], 8), '0')::float8)
    + case part[8] when '-' then shift else -shift end
  ) at time zone 'UTC';
end
$$;
