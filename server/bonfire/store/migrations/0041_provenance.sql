-- Whose record a Provenance is: so that who may see a patient's records sees where they come from, and nobody else does.

create or replace function bonfire.patient_of(resource_type text, id text, resource jsonb) returns text
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
  -- R5's element where it is given, as R4 has it in an extension; else R4's compartment: the first patient among its targets.
  when resource_type = 'Provenance' then coalesce(
    bonfire.ref_id(jsonb_path_query_first(resource,
      '$.extension[*] ? (@.url == "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient").valueReference.reference'
      ) #>> '{}', 'Patient'),
    bonfire.ref_id(
      jsonb_path_query_first(resource, '$.target[*].reference ? (@ like_regex "(^|/)Patient/")') #>> '{}', 'Patient'))
  else coalesce(
    bonfire.ref_id(resource #>> '{subject,reference}', 'Patient'),
    bonfire.ref_id(resource #>> '{patient,reference}', 'Patient'))
end;
