-- The commits after the reader's last one ($1 its position, $2 its xid), at most $3, a row per message; and whether the reader has missed none.
select
  known.whole,
  next.position,
  next.xid::text::bigint as xid,
  extract(epoch from next.at)::float8 as at,
  outbox.message
from (
  -- The reader's last commit goes when what came after it may have gone: with a cleaning, a switch-off, another cluster's dump.
  select (select is_called from bonfire.outbox_switch)
    and exists (select from bonfire.outbox_commit where position = $1 and xid = $2::bigint::text::xid8) as whole
) as known
left join lateral (
  select * from bonfire.outbox_commit where position > $1 order by position limit $3
) as next on true
left join bonfire.outbox on outbox.xid = next.xid
order by next.position, outbox.ordinal
