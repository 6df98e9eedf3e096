-- Takes the next job of the indexes $1 that may run at $2, under lease $3 until $4, with all that waits for the same patient.
with lead as (
  select j.id, j.tenant, j.index, j.patient
  from bonfire.job j
  where j.state = 'waiting' and j.run_at <= $2 and j.index = any ($1)
    -- A sweep lists patients: every transaction that began before it was asked for must be over by then.
    and (j.patient <> '*' or j.xid < pg_snapshot_xmin(pg_current_snapshot()))
    -- One job a patient: not while another one runs or waits out its back-off, and the most urgent leads.
    and not exists (
      select from bonfire.job o
      where o.tenant = j.tenant and o.index = j.index and o.patient = j.patient and o.id <> j.id
        and (o.state = 'running'
          or (o.state = 'waiting' and (o.run_at > $2 or (o.priority, o.id) < (j.priority, j.id)))))
  order by j.priority, j.run_at, j.id
  limit 1
  for update of j skip locked
), absorbed as (
  delete from bonfire.job o using lead l
  where o.tenant = l.tenant and o.index = l.index and o.patient = l.patient and o.id <> l.id
    and o.state <> 'running'
    and (o.patient <> '*' or o.xid < pg_snapshot_xmin(pg_current_snapshot()))
  returning o.state, o.mutations, o.sweep
)
update bonfire.job j set
  state = 'running', attempts = j.attempts + 1, lease = $3, leased_until = $4,
  -- Those of a failed job have heard of it: each hears one end.
  mutations = j.mutations || array(
    select unnest(a.mutations) from absorbed a where a.state = 'waiting' except select unnest(j.mutations)),
  sweep = coalesce(j.sweep, (select max(a.sweep) from absorbed a)),
  -- A sweep that was asked for again must visit everybody again.
  fanned_at = case when exists (select from absorbed a where a.state = 'waiting') then null else j.fanned_at end
from lead l
where j.id = l.id
returning j.id, j.tenant, j.index, nullif(j.patient, '*') as patient, j.attempts, j.fanned_at is not null as fanned
