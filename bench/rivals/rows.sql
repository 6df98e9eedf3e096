-- The newest notes of patient $1, as one JSON text.
select coalesce(json_agg(n order by n.number desc), '[]')::text as rows
from (select stamp, id, patient, number, text from note where patient = $1 order by number desc limit 50) n
