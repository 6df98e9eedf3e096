-- search_all: the chunks of all patients nearest to a vector ($1, as text), at most $2
select patient, note, version, text, distance
from (
  select c.patient, c.note, c.version, c.number, c.text,
    c.embedding operator({{schema}}.<=>) $1::text::{{schema}}.vector as distance
  from bonfire.note_chunk c
  where c.tenant = bonfire.current_tenant()
) found
order by distance, note, number
limit $2

-- search_one: the same, of one patient ($3)
select patient, note, version, text, distance
from (
  select c.patient, c.note, c.version, c.number, c.text,
    c.embedding operator({{schema}}.<=>) $1::text::{{schema}}.vector as distance
  from bonfire.note_chunk c
  where c.tenant = bonfire.current_tenant() and c.patient = $3
) found
order by distance, note, number
limit $2

-- insert_chunks: a patient's ($1) chunks: notes, versions, numbers, texts and embeddings (as text), one array each
insert into bonfire.note_chunk (patient, note, version, number, text, embedding)
select $1, c.note, c.version, c.number, c.text, c.embedding::{{schema}}.vector
from unnest($2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[]) c (note, version, number, text, embedding)
