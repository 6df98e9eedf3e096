-- find_identifiers: which current records have which of the identifiers sought (system null: any, empty: none).
select distinct sought.number::int, has.id
from unnest($1::text[], $2::text[]) with ordinality as sought (system, value, number)
join (
  select record.id, identifier ->> 'system' as system, identifier ->> 'value' as value
  from public.<current> record,
    -- A lax path takes a lone identifier (Bundle, Composition) as a list of one.
    jsonb_path_query(record.resource, 'lax $.identifier[*]') identifier
  where record.tenant = bonfire.current_tenant()
) has on has.value = sought.value and (sought.system is null or sought.system = coalesce(has.system, ''))
