-- lock_conditions: wait for whoever writes under one of these conditions, until the end of the transaction.
-- They share 64 locks per type of resource, so that a Bundle of thousands of conditions does not fill the lock table;
-- the locks are taken in one order, so that two Bundles never wait for each other.
select pg_advisory_xact_lock(number)
from (
  select distinct hashtextextended(
    format('bonfire condition %s %s %s', bonfire.current_tenant(), resource_type, abs(hashtextextended(key, 0) % 64)), 0
  ) as number
  from unnest($1::text[], $2::text[]) as condition (resource_type, key)
  order by number
) locks
