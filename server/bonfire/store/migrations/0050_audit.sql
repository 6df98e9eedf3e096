-- The audit trail: who did or saw what, append only, partitioned by month, sealed in a chain of hashes. See docs/audit.md.

-- The partitions live apart: their names depend on the calendar, and nobody has reason to name one.
create schema bonfire_audit;

create table bonfire.audit (
  tenant text not null default bonfire.current_tenant(),
  id uuid not null,
  -- When it was recorded, by the one clock that all nodes share. Nobody but the owner can say another time or transaction.
  at timestamptz not null default clock_timestamp(),
  xid xid8 not null default pg_current_xact_id(),
  action text not null check (action in ('C', 'R', 'U', 'D', 'E')),
  subtype text not null,
  user_id text,
  user_name text,
  user_kind text,
  roles text[] not null default '{}',
  behalf_of text,
  patient text,
  what text,
  query text,
  policies text[] not null default '{}',
  purpose text,
  outcome smallint not null default 0 check (outcome in (0, 4, 8, 12)),
  reason text,
  address text,
  surface text not null,
  request text,
  count bigint,
  since timestamptz,
  detail jsonb not null default '{}' check (octet_length(detail::text) <= 4096)
) partition by range (at);

create table bonfire_audit.rest partition of bonfire.audit default;

-- By id for a read of one, and for who sends a batch again. By transaction for the sealer.
create index audit_id on bonfire.audit (id);
create index audit_xid on bonfire.audit (xid, id);
create index audit_at on bonfire.audit (tenant, at desc, id desc);
create index audit_patient on bonfire.audit (tenant, patient, at desc, id desc) where patient is not null;
create index audit_user on bonfire.audit (tenant, user_id, at desc, id desc) where user_id is not null;

alter table bonfire.audit enable row level security;
alter table bonfire_audit.rest enable row level security;
create policy tenant on bonfire.audit for select using (
  tenant = bonfire.current_tenant()
  and (bonfire.sees_all() or bonfire.in_reach(
    array['type:AuditEvent', 'patient:' || coalesce(patient, ''), 'draft:false', 'label:'], (select bonfire.reach())))
);
create policy append on bonfire.audit for insert with check (tenant = bonfire.current_tenant());

grant select on bonfire.audit to bonfire_app;
grant insert (
  tenant, id, action, subtype, user_id, user_name, user_kind, roles, behalf_of, patient, what, query, policies, purpose,
  outcome, reason, address, surface, request, count, since, detail
) on bonfire.audit to bonfire_app;

create function bonfire.refuse_audit_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the audit trail is append only' using errcode = 'restrict_violation',
    hint = 'Whole months go by retention: bonfire audit prune.';
end
$$;

create trigger append_only before update or delete or truncate on bonfire.audit
for each statement execute function bonfire.refuse_audit_change();

-- Tells live views of the trail whose rows there are new ones of. One message a statement and tenant.
create function bonfire.tell_audit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  told record;
begin
  for told in
    select n.tenant, coalesce(array_agg(distinct n.patient) filter (where n.patient is not null), '{}') as patients
    from new_rows n group by n.tenant
  loop
    perform bonfire.emit(json_build_object(
      'tenant', told.tenant, 'source', 'AuditEvent',
      'patients', case when cardinality(told.patients) <= 100 then to_json(told.patients) end,
      'views', '[]'::json
    )::text);
  end loop;
  return null;
end
$$;

create trigger tell after insert on bonfire.audit
referencing new table as new_rows for each statement execute function bonfire.tell_audit();

-- ---- months --------------------------------------------------------------------------------------------------------

-- Makes the partitions of this month and the next ones, and those of rows that had to wait in the rest because theirs was
-- missing, and moves these there. Returns how many rows it moved: each of them is a sign that nobody kept house.
create function bonfire.keep_audit_months(ahead integer default 3) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  first date;
  partition text;
  moved bigint;
  total bigint := 0;
begin
  perform pg_advisory_xact_lock(1651469926, 3);
  for first in
    select (date_trunc('month', clock_timestamp() at time zone 'UTC') + n * interval '1 month')::date
    from generate_series(0, keep_audit_months.ahead) n
    union
    select distinct date_trunc('month', r.at at time zone 'UTC')::date from bonfire_audit.rest r
    order by 1
  loop
    partition := 'audit_' || to_char(first, 'YYYY_MM');
    continue when to_regclass(format('bonfire_audit.%I', partition)) is not null;
    execute format(
      'create table bonfire_audit.%1$I (like bonfire.audit including defaults including constraints);
       alter table bonfire_audit.%1$I enable row level security;
       lock table bonfire_audit.rest in access exclusive mode', partition);
    execute format(
      'with moved as (
         delete from bonfire_audit.rest
         where at >= %2$L::timestamp at time zone ''UTC'' and at < %3$L::timestamp at time zone ''UTC'' returning *
       )
       insert into bonfire_audit.%1$I select * from moved', partition, first, first + interval '1 month');
    get diagnostics moved = row_count;
    total := total + moved;
    execute format(
      'alter table bonfire.audit attach partition bonfire_audit.%I for values from (%L) to (%L)',
      partition, first::timestamp at time zone 'UTC', (first + interval '1 month') at time zone 'UTC');
  end loop;
  return total;
end
$$;

select bonfire.keep_audit_months();

-- ---- seals ---------------------------------------------------------------------------------------------------------

-- The chain. A `seal` vouches for the rows of one month with from_xid <= xid < to_xid; a `drop` says that retention has taken
-- a month away. `hash` covers the other columns and the `previous` hash. `leaves` (24 bytes a row: its id and the first 8
-- bytes of its hash) only help to name the row that is wrong: nothing is proved by them.
create table bonfire.audit_seal (
  seq bigint primary key,
  kind text not null check (kind in ('seal', 'drop')),
  month date not null,
  from_xid xid8 not null,
  to_xid xid8 not null,
  rows bigint not null,
  digest bytea not null,
  spelling smallint not null,
  at timestamptz not null,
  xid xid8 not null,
  previous bytea not null,
  hash bytea not null,
  leaves bytea not null
);
create index on bonfire.audit_seal (month, seq);

-- One row: where the chain ends. `to_xid`: every row of a lower transaction is sealed.
create table bonfire.audit_head (
  one boolean primary key default true check (one),
  seq bigint not null,
  to_xid xid8 not null,
  hash bytea not null,
  at timestamptz
);
insert into bonfire.audit_head (seq, to_xid, hash) values (0, '0', '');

alter table bonfire.audit_seal enable row level security;
alter table bonfire.audit_head enable row level security;
-- It is no tenant's, and made to be known.
create policy known on bonfire.audit_head for select using (true);
grant select on bonfire.audit_head to bonfire_app;

-- A value with its length in bytes before it: what follows can't be taken for a part of it. Null is '-'.
create function bonfire.audit_word(value text) returns text
language sql immutable parallel safe
return coalesce(octet_length(value) || ':' || value, '-');

create function bonfire.audit_words(list text[]) returns text
language sql immutable parallel safe
return bonfire.audit_word((
  select coalesce(string_agg(bonfire.audit_word(item), '' order by nth), '')
  from unnest(list) with ordinality as items (item, nth)
));

-- Microseconds since 1970, which no setting of a session spells in another way.
create function bonfire.audit_time(value timestamptz) returns text
language sql immutable parallel safe
return bonfire.audit_word((extract(epoch from value) * 1000000)::bigint::text);

-- Spelling 1 of a row: never to be changed, since seals were made of it. `store/audit_chain.py` spells the same.
create function bonfire.audit_spelling_1(a bonfire.audit) returns text
language sql immutable parallel safe
return bonfire.audit_word(a.tenant) || bonfire.audit_word(a.id::text) || bonfire.audit_time(a.at)
  || bonfire.audit_word(a.xid::text) || bonfire.audit_word(a.action) || bonfire.audit_word(a.subtype)
  || bonfire.audit_word(a.user_id) || bonfire.audit_word(a.user_name) || bonfire.audit_word(a.user_kind)
  || bonfire.audit_words(a.roles) || bonfire.audit_word(a.behalf_of) || bonfire.audit_word(a.patient)
  || bonfire.audit_word(a.what) || bonfire.audit_word(a.query) || bonfire.audit_words(a.policies)
  || bonfire.audit_word(a.purpose) || bonfire.audit_word(a.outcome::text) || bonfire.audit_word(a.reason)
  || bonfire.audit_word(a.address) || bonfire.audit_word(a.surface) || bonfire.audit_word(a.request)
  || bonfire.audit_word(a.count::text) || bonfire.audit_time(a.since) || bonfire.audit_word(a.detail::text);

-- Adds a link to the chain. The caller holds the lock of the chain.
create function bonfire.append_audit_seal(
  kind text, month date, from_xid xid8, to_xid xid8, rows bigint, digest bytea, leaves bytea
) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  head record;
  now timestamptz := clock_timestamp();
  own xid8 := pg_current_xact_id();
  link bytea;
begin
  select h.seq + 1 as seq, h.hash into strict head from bonfire.audit_head h for update;
  link := sha256(convert_to(
    bonfire.audit_word(head.seq::text) || bonfire.audit_word(append_audit_seal.kind)
      || bonfire.audit_word(to_char(append_audit_seal.month, 'YYYY-MM')) || bonfire.audit_word(append_audit_seal.from_xid::text)
      || bonfire.audit_word(append_audit_seal.to_xid::text) || bonfire.audit_word(append_audit_seal.rows::text)
      || bonfire.audit_word(encode(append_audit_seal.digest, 'hex')) || bonfire.audit_word('1')
      || bonfire.audit_time(now) || bonfire.audit_word(own::text) || bonfire.audit_word(encode(head.hash, 'hex')),
    'UTF8'));
  insert into bonfire.audit_seal
    (seq, kind, month, from_xid, to_xid, rows, digest, spelling, at, xid, previous, hash, leaves)
  values (head.seq, append_audit_seal.kind, append_audit_seal.month, append_audit_seal.from_xid, append_audit_seal.to_xid,
    append_audit_seal.rows, append_audit_seal.digest, 1, now, own, head.hash, link, append_audit_seal.leaves);
  update bonfire.audit_head set seq = head.seq, hash = link, at = now;
end
$$;

-- Seals what is not sealed yet and can have no more rows before it: transactions below the oldest one that still runs. At most
-- about `most` rows, in whole transactions. Returns how many rows it sealed; null when another one is at it.
create function bonfire.seal_audit(most integer default 50000) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  sealed_to xid8;
  horizon xid8;
  part record;
  sealed bigint := 0;
begin
  if not pg_try_advisory_xact_lock(1651469926, 4) then
    return null;
  end if;
  select h.to_xid into strict sealed_to from bonfire.audit_head h;
  -- Statements of their own: each one's snapshot is taken after this horizon was, and so sees all that lies below it.
  horizon := pg_snapshot_xmin(pg_current_snapshot());
  if horizon < sealed_to then
    raise exception 'the transactions of this database are numbered below those of the audit trail''s seals'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'It was restored from a dump: set its transaction ids forward with pg_resetwal. See docs/audit.md.';
  end if;
  horizon := coalesce((
    select a.xid from bonfire.audit a
    where a.xid > sealed_to and a.xid < horizon
    order by a.xid, a.id offset seal_audit.most limit 1
  ), horizon);
  for part in
    select date_trunc('month', a.at at time zone 'UTC')::date as month, count(*) as rows,
      sha256(string_agg(h.hash, ''::bytea order by a.xid, a.id)) as digest,
      string_agg(uuid_send(a.id) || substr(h.hash, 1, 8), ''::bytea order by a.xid, a.id) as leaves
    from bonfire.audit a
    cross join lateral (select sha256(convert_to(bonfire.audit_spelling_1(a), 'UTF8')) as hash offset 0) h
    where a.xid >= sealed_to and a.xid < horizon
    group by 1 order by 1
  loop
    perform bonfire.append_audit_seal('seal', part.month, sealed_to, horizon, part.rows, part.digest, part.leaves);
    sealed := sealed + part.rows;
  end loop;
  if sealed > 0 then
    update bonfire.audit_head set to_xid = horizon;
  end if;
  return sealed;
end
$$;

-- Retention: takes away the months that ended before `before`, and says so in the chain. Returns them, with their rows.
create function bonfire.prune_audit(before timestamptz) returns table (month date, rows bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  sealed_to xid8;
  unsealed boolean;
begin
  if prune_audit.before > clock_timestamp() - interval '1 month' then
    raise exception 'the trail of the last month is kept' using errcode = 'invalid_parameter_value';
  end if;
  perform pg_advisory_xact_lock(1651469926, 4);
  select h.to_xid into strict sealed_to from bonfire.audit_head h;
  for month in
    with partitions as materialized (
      select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'bonfire.audit'::regclass and c.relname like 'audit!_%' escape '!'
    )
    select to_date(substr(relname, 7), 'YYYY_MM') as first from partitions
    where (to_date(substr(relname, 7), 'YYYY_MM') + interval '1 month') at time zone 'UTC' <= prune_audit.before
    order by first
  loop
    execute format(
      'select exists (select from bonfire_audit.%I where xid >= $1)', 'audit_' || to_char(month, 'YYYY_MM')
    ) into unsealed using sealed_to;
    if unsealed then
      raise exception 'the trail of % is not sealed to its end', to_char(month, 'YYYY-MM')
        using errcode = 'object_not_in_prerequisite_state', hint = 'Seal it first: bonfire audit seal.';
    end if;
    select coalesce(sum(s.rows), 0) into rows from bonfire.audit_seal s where s.month = prune_audit.month and s.kind = 'seal';
    perform bonfire.append_audit_seal('drop', month, sealed_to, sealed_to, rows, '', '');
    update bonfire.audit_seal s set leaves = '' where s.month = prune_audit.month;
    execute format('drop table bonfire_audit.%I', 'audit_' || to_char(month, 'YYYY_MM'));
    return next;
  end loop;
end
$$;

revoke execute on function bonfire.prune_audit(timestamptz), bonfire.seal_audit(integer), bonfire.keep_audit_months(integer),
  bonfire.append_audit_seal(text, date, xid8, xid8, bigint, bytea, bytea) from public;
grant execute on function bonfire.seal_audit(integer), bonfire.keep_audit_months(integer) to bonfire_app;
