-- links: the chain, link by link.
select seq, kind, month, from_xid::text::bigint as from_xid, to_xid::text::bigint as to_xid, rows, digest, spelling, at,
  (extract(epoch from at) * 1000000)::bigint as at_us, xid::text::bigint as xid, previous, hash
from bonfire.audit_seal order by seq

-- end: where the chain ought to end.
select seq, hash, to_xid::text::bigint as to_xid from bonfire.audit_head

-- months: those that have seals or partitions, and those of rows that wait for their partition.
select month from bonfire.audit_seal where kind = 'seal'
union
select to_date(substr(relname, 7), 'YYYY_MM') from (
  select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'bonfire.audit'::regclass and c.relname like 'audit!_%' escape '!' offset 0
) partitions
union
select date_trunc('month', at at time zone 'UTC')::date from bonfire_audit.rest
order by month

-- seals: those of a month, with what is known of the pass before each: its time, and its own transaction.
select s.seq, s.from_xid::text::bigint as from_xid, s.to_xid::text::bigint as to_xid, s.rows, s.digest, s.leaves, s.at,
  p.at as before_at, p.xid::text::bigint as before_xid
from bonfire.audit_seal s
left join lateral (
  select b.at, b.xid from bonfire.audit_seal b where b.seq < s.seq and b.to_xid <= s.from_xid order by b.seq desc limit 1
) p on true
where s.month = $1 and s.kind = 'seal'
order by s.seq

-- rows: those of a month, with what spelling 1 spells of them.
select a.id::text as id, a.at, a.xid::text::bigint as xid, row(
  a.tenant, a.id::text, (extract(epoch from a.at) * 1000000)::bigint::text, a.xid::text, a.action, a.subtype,
  a.user_id, a.user_name, a.user_kind, a.roles, a.behalf_of, a.patient, a.what, a.query, a.policies, a.purpose,
  a.outcome::text, a.reason, a.address, a.surface, a.request, a.count::text,
  (extract(epoch from a.since) * 1000000)::bigint::text, a.detail::text
) as words
from bonfire.audit a
where a.at >= $1::date::timestamp at time zone 'UTC' and a.at < ($1::date + interval '1 month') at time zone 'UTC'
order by a.xid, a.id
