-- Reading FHIR in read models: functions that give null for what they can't read, so that no record stops a write.

-- The same instants as before, at a thirtieth of the cost: each read model of a record runs this in each write. No backslash
-- is in it, because a session may read one in a string as an escape (standard_conforming_strings).
create or replace function bonfire.instant(value text) returns timestamptz
language plpgsql immutable strict parallel safe
as $$
begin
  if value !~ (
      '^[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01])'
      '(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9](?::(?:[0-5][0-9]|60)(?:[.][0-9]{1,9})?)?'
      '(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?)?)?)?$')
    or left(value, 4) = '0000'
  then
    return null;
  end if;
  if length(value) < 10 then
    return (value || case length(value) when 4 then '-01-01' else '-01' end || 'T00:00:00Z')::timestamptz;
  end if;
  if substr(value, 9, 2) > '28'
    and substr(value, 9, 2)::int > extract(day from (left(value, 7) || '-01')::date + interval '1 month - 1 day')
  then
    return null;
  end if;
  if length(value) = 10 then
    return (value || 'T00:00:00Z')::timestamptz;
  end if;
  if value !~ '(?:Z|[+-][0-9]{2}:[0-9]{2})$' then
    value := value || 'Z';
  end if;
  if strpos(value, '.') > 0 then
    -- Cut at the microsecond: Postgres would round it.
    value := overlay(value placing substring(value from '[.][0-9]{1,6}') from strpos(value, '.')
      for length(substring(value from '[.][0-9]+')));
  end if;
  if substr(value, 17, 3) = ':60' then
    -- A leap second may have a fraction, but not for Postgres.
    return overlay(value placing ':59' from 17)::timestamptz + interval '1 second';
  end if;
  return value::timestamptz;
end
$$;

-- The day of a FHIR date, dateTime or instant, as it is written there: a partial date is its first day.
create function bonfire.day(value text) returns date
language sql immutable parallel safe
return case
  when bonfire.instant(value) is not null then (bonfire.instant(left(value, 10)) at time zone 'UTC')::date
end;

-- A JSON string's text.
create function bonfire.string(value jsonb) returns text
language sql immutable parallel safe
return case when jsonb_typeof(value) = 'string' then value #>> '{}' end;

-- A JSON number, spelled as it came.
create function bonfire.number(value jsonb) returns numeric
language sql immutable parallel safe
return case when jsonb_typeof(value) = 'number' then value::numeric end;

-- A JSON number that is whole, and not too large to be one here.
create function bonfire.integer(value jsonb) returns bigint
language sql immutable parallel safe
return case
  when jsonb_typeof(value) = 'number'
    then case when abs(value::numeric) < 9e18 and value::numeric % 1 = 0 then value::bigint end
end;

-- A JSON truth value.
create function bonfire.flag(value jsonb) returns boolean
language sql immutable parallel safe
return case when jsonb_typeof(value) = 'boolean' then value::boolean end;

-- The strings of a JSON array (or a single one), joined; null where there is none.
create function bonfire.joined(value jsonb, separator text) returns text
language sql immutable parallel safe
return (
  select string_agg(item #>> '{}', separator order by place)
  from jsonb_array_elements(jsonb_path_query_array(value, '$[*] ? (@.type() == "string")'))
    with ordinality items (item, place)
);

-- What people read for a CodeableConcept: its text, else a coding's display, else a coding's code.
create function bonfire.concept(value jsonb) returns text
language sql immutable parallel safe
return coalesce(
  jsonb_path_query_first(value, '$.text ? (@.type() == "string" && @ != "")') #>> '{}',
  jsonb_path_query_first(value, '$.coding[*].display ? (@.type() == "string" && @ != "")') #>> '{}',
  jsonb_path_query_first(value, '$.coding[*].code ? (@.type() == "string" && @ != "")') #>> '{}'
);

-- A Quantity as people write it: `72 kg`.
create function bonfire.quantity(value jsonb) returns text
language sql immutable parallel safe
return bonfire.number(value -> 'value')::text
  || coalesce(' ' || coalesce(bonfire.string(value -> 'unit'), bonfire.string(value -> 'code')), '');

-- The components of an Observation in one line: `Systolic blood pressure 120 mmHg, Diastolic blood pressure 80 mmHg`.
create function bonfire.components(value jsonb) returns text
language sql immutable parallel safe
return (
  select string_agg(
    concat_ws(' ', bonfire.concept(c -> 'code'), coalesce(
      bonfire.quantity(c -> 'valueQuantity'), bonfire.concept(c -> 'valueCodeableConcept'), bonfire.string(c -> 'valueString'))),
    ', ' order by place)
  from jsonb_array_elements(jsonb_path_query_array(value, '$[*] ? (@.type() == "object")')) with ordinality items (c, place)
);

-- The text in base64 `data`, UTF-8, at most `most` characters of it; null where it is no such thing.
create function bonfire.plain_text(data text, most integer) returns text
language plpgsql immutable strict
as $$
declare
  packed text := translate(data, E' \n\r\t', '');
  -- A character has up to four bytes, and four letters hold three bytes: what is behind them is not even decoded.
  letters bigint := ((most + 1)::bigint * 4 + 2) / 3 * 4;
  bytes bytea;
begin
  bytes := decode(left(packed, least(letters, length(packed))::int), 'base64');
  if length(packed) > letters then
    -- The cut may have gone through a character: its bytes but the first are 10xxxxxx.
    while get_byte(bytes, length(bytes) - 1) & 192 = 128 loop
      bytes := substr(bytes, 1, length(bytes) - 1);
    end loop;
    bytes := substr(bytes, 1, length(bytes) - 1);
  end if;
  return left(convert_from(bytes, 'UTF8'), most);
exception
  when others then
    return null;
end
$$;
