-- insert: appends rows, a JSON array of them; when, and by which transaction, is for the database to say.
insert into bonfire.audit (
  tenant, id, action, subtype, user_id, user_name, user_kind, roles, behalf_of, patient, what, query, policies, purpose,
  outcome, reason, address, surface, request, count, since, detail
)
select
  e.tenant, e.id, e.action, e.subtype, e."user", e.name, e.kind, e.roles, e.behalf_of, e.patient, e.what, e.query, e.policies,
  e.purpose, e.outcome, e.reason, e.address, e.surface, e.request, e.count, e.since, e.detail
from json_to_recordset($1::json) as e(
  tenant text, id uuid, action text, subtype text, "user" text, name text, kind text, roles text[], behalf_of text, patient text,
  what text, query text, policies text[], purpose text, outcome smallint, reason text, address text, surface text, request text,
  count bigint, since timestamptz, detail jsonb
)
{{more}}

-- hold: a batch's own lock, so that whoever sends it again waits for the end of the first attempt.
select pg_advisory_xact_lock($1)

-- keep_months: makes the partitions of this month and the next ones; how many rows had to wait for theirs.
select bonfire.keep_audit_months()

-- seal: seals what can be sealed; null when another one is at it.
select bonfire.seal_audit()

-- head: where the chain of seals ends.
select seq, hash, at from bonfire.audit_head

-- prune: takes away the months that ended before a time, and says so in the chain.
select month, rows from bonfire.prune_audit($1) order by month

-- find: what the transaction may see of the trail, the newest first; what is null is not asked for.
select a.tenant, a.id, a.action, a.subtype, a.surface, a.user_id, a.user_name, a.user_kind, a.roles, a.behalf_of, a.patient, a.what,
  a.query, a.policies, a.purpose, a.outcome, a.reason, a.address, a.request, a.count, a.since, a.detail::text as detail, a.at,
  a.xid::text::bigint as xid
from bonfire.audit a
where a.tenant = bonfire.current_tenant()
  and ($1::uuid is null or a.id = $1)
  and ($2::text is null or a.patient = $2)
  and ($3::text is null or a.user_id = $3)
  and ($4::text is null or a.action = $4)
  and ($5::text is null or a.subtype = $5)
  and ($6::text is null or a.what = $6 or starts_with(a.what, $6 || '/_history/'))
  and ($7::smallint is null or a.outcome = $7)
  and ($8::timestamptz is null or a.at >= $8)
  and ($9::timestamptz is null or a.at < $9)
  and ($10::uuid is null or (a.at, a.id) < (select b.at, b.id from bonfire.audit b where b.id = $10))
order by a.at desc, a.id desc
limit $11
