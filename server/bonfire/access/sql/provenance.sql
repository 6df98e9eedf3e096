-- record: Provenance resources, as ids and JSON texts; who writes need not be one who may read them.
insert into public.provenance (id, resource)
select given.id, given.resource::jsonb
from unnest($1::text[], $2::text[]) as given (id, resource)
