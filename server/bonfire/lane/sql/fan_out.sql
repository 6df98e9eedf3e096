-- Queues a job for each of the patients $1 of the sweep $2 under lease $3, and lets the sweep wait until $4 for them.
with sweep as (
  update bonfire.job set
    state = 'waiting', lease = null, leased_until = null, attempts = 0, run_at = $4, fanned_at = $5
  where id = $2 and lease = $3
  returning id, tenant, index
), parts as (
  insert into bonfire.job (tenant, index, patient, priority, sweep)
  select s.tenant, s.index, p.patient, 1, s.id
  from sweep s cross join unnest($1::text[]) p (patient)
  on conflict do nothing
)
select id from sweep
