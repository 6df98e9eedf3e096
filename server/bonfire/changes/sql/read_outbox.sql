-- The commits after the reader's last one ($1 its position, $2 its xid), at most $3 and $4 bytes of messages, a row per message; the first one comes without its messages where it is larger. And whether the reader has missed none, and whether there are more.
select
  known.whole,
  next.position,
  next.xid::text::bigint as xid,
  extract(epoch from next.at)::float8 as at,
  next.bytes > $4 as large,
  next.more,
  outbox.message
from (
  -- The reader's last commit goes when what came after it may have gone: with a cleaning, a switch-off, another cluster's dump.
  select (select is_called from bonfire.outbox_switch)
    and exists (select from bonfire.outbox_commit where position = $1 and xid = $2::bigint::text::xid8) as whole
) as known
left join lateral (
  select *, found = $3 or found > count(*) over () as more
  from (
    -- The stored (compressed) size: to know another one, every message would have to be unpacked.
    select c.*, m.bytes, count(*) over () as found, sum(m.bytes) over (order by c.position) as bytes_so_far
    from (select * from bonfire.outbox_commit where position > $1 order by position limit $3) as c
    cross join lateral (
      select coalesce(sum(pg_column_size(message)), 0)::bigint as bytes from bonfire.outbox where xid = c.xid
    ) as m
  ) as sized
  where bytes_so_far <= $4 or bytes_so_far = bytes
) as next on true
left join bonfire.outbox on outbox.xid = next.xid and next.bytes <= $4
order by next.position, outbox.ordinal
