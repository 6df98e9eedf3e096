-- The change feed: how a transaction tells the live engine what it changed, over the WAL or, where that can't be read, an outbox.

create schema if not exists bonfire;

-- What a reader of the WAL asks for. It publishes no table: all that the live engine needs are messages.
do $publication$
begin
  if not exists (select from pg_publication where pubname = 'bonfire_live') then
    create publication bonfire_live;
  end if;
exception
  when insufficient_privilege then
    raise warning 'the role % may not create the publication bonfire_live: changes will be read by LISTEN, which costs '
      'the writers more; an administrator can run: CREATE PUBLICATION bonfire_live;', current_user;
end
$publication$;

-- Whether messages go to the outbox too: is_called. It is a sequence, because what a sequence says is outside of
-- transactions: a snapshot taken long ago sees the switch as it is now.
create sequence bonfire.outbox_switch;
select setval('bonfire.outbox_switch', 1, false);

-- The messages of transactions, kept for readers by LISTEN.
create table bonfire.outbox (
  xid xid8 not null default pg_current_xact_id(),
  ordinal bigint generated always as identity,
  message text not null,
  primary key (xid, ordinal)
);

-- Each transaction that has messages, in commit order. Apart from the messages, so that a transaction is put in its place
-- once, also when another deferred trigger adds a message to it afterwards.
create table bonfire.outbox_commit (
  position bigint primary key,
  xid xid8 not null unique,
  at timestamptz not null
);

-- Rows come and go fast: vacuum by their number, not by a share of the table.
alter table bonfire.outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
alter table bonfire.outbox_commit set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- One row. `horizon`: every transaction with a lower id may have missed that the outbox is on; null while nobody has
-- asked since it was switched on. `read_at`: when a reader by LISTEN was last known.
create table bonfire.outbox_use (
  horizon xid8,
  read_at timestamptz not null default '-infinity'
);
insert into bonfire.outbox_use default values;

-- Tells the live engine `message` (JSON, see docs/architecture.md) if and when this transaction commits. For whoever writes:
-- it acts as its owner, and names everything in full, so that the caller's search_path means nothing.
create function bonfire.emit(message text) returns void
language plpgsql volatile strict security definer parallel unsafe
as $$
begin
  -- The message comes before the look at the switch, because it gives the transaction its id: whoever turns the switch
  -- and then waits for all transactions that have an id has waited for all that saw it off.
  perform pg_catalog.pg_logical_emit_message(true, 'bonfire', message);
  if (select switch.is_called from bonfire.outbox_switch as switch) then
    insert into bonfire.outbox (message) values (message);
  end if;
end
$$;

comment on function bonfire.emit(text) is
  'Tells the live engine a JSON message when this transaction commits; nothing is told when it rolls back.';

-- Gives this transaction its position, once; to be called as late as can be, because other commits wait from here on.
-- The lock is let go of after the commit has become visible (CommitTransaction takes these steps in this order), so positions
-- are in commit order, and whoever sees one sees all before it. A position is a point in the WAL behind every commit that has
-- a lower one and before this transaction's own commit record (at least one byte of which lies behind the end of the log),
-- so it compares with the positions of readers of the WAL.
-- A transaction that has told anything can't be prepared (PREPARE TRANSACTION refuses NOTIFY), which is as well: it
-- would hold the lock until somebody commits it.
create function bonfire.take_position() returns void
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
  taken bigint;
begin
  perform pg_advisory_xact_lock(1651469926, 1);
  insert into bonfire.outbox_commit (position, xid, at)
  values ((pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint + 1, pg_current_xact_id(), clock_timestamp())
  on conflict (xid) do nothing
  returning position into taken;
  if found then
    perform pg_notify('bonfire', taken::text);
  end if;
end
$$;

create function bonfire.place_commit() returns trigger
language plpgsql volatile security definer
as $$
begin
  perform bonfire.take_position();
  return null;
end
$$;

create constraint trigger place_commit after insert on bonfire.outbox
deferrable initially deferred
for each row execute function bonfire.place_commit();

-- A message without a position would never be read: this one also fires for sessions that replicate.
alter table bonfire.outbox enable always trigger place_commit;

-- The last position that this statement's snapshot sees: every commit that it sees has that one or a lower one.
create function bonfire.outbox_position() returns bigint
language sql stable security definer parallel safe
return (select coalesce(max(c.position), 0) from bonfire.outbox_commit as c);

-- A position up to which every commit is visible to each snapshot taken from now on; null where that is not to be
-- had without waiting for a commit under way (`patient`: then it waits). The caller must be in no longer transaction: the
-- lock is held to its end.
create function bonfire.outbox_watermark(patient boolean) returns bigint
language plpgsql volatile security definer parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
  if patient then
    perform pg_advisory_xact_lock_shared(1651469926, 1);
  elsif not pg_try_advisory_xact_lock_shared(1651469926, 1) then
    return null;
  end if;
  return (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint;
end
$$;

-- Switches the outbox on, if it is off. Transactions under way may still have missed it: a reader must then see to it, in a
-- later transaction, that `outbox_use.horizon` is set, and wait until no older transaction runs.
create function bonfire.enable_outbox() returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
  is_on boolean;
  is_foreign boolean;
begin
  perform pg_advisory_xact_lock(1651469926, 2);
  select is_called into is_on from bonfire.outbox_switch;
  -- Rows from the future came with a dump from another cluster; their ids and positions would collide with this one's.
  select exists (
    select from bonfire.outbox_commit
    where position > pg_current_wal_insert_lsn() - '0/0'::pg_lsn or xid >= pg_snapshot_xmax(pg_current_snapshot())
  ) into is_foreign;
  if is_on and not is_foreign then
    return;
  end if;
  delete from bonfire.outbox_commit;
  delete from bonfire.outbox;
  perform setval('bonfire.outbox_switch', 1, true);
  update bonfire.outbox_use set horizon = null, read_at = now();
  -- A commit without messages: from here on there is always a last commit, by which readers tell what they have.
  perform bonfire.take_position();
end
$$;

-- Drops what readers no longer need: commits older than `max_age`, and the oldest ones beyond `max_bytes` of messages; never
-- the newest one. `reading`: the caller reads the outbox. When nobody has for `max_unused`, it is switched off.
create function bonfire.tend_outbox(reading boolean, max_age interval, max_bytes bigint, max_unused interval) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
  keep_from bigint;
begin
  if not pg_try_advisory_xact_lock(1651469926, 2) then
    return;
  end if;
  if reading then
    update bonfire.outbox_use set read_at = now();
  elsif (select read_at < now() - max_unused from bonfire.outbox_use) then
    if (select is_called from bonfire.outbox_switch) then
      perform setval('bonfire.outbox_switch', 1, false);
    end if;
    -- Also what transactions that still saw it on have left since the last time.
    delete from bonfire.outbox_commit;
    delete from bonfire.outbox;
    return;
  end if;
  -- The stored (compressed) size: to know another one, every message would have to be unpacked.
  select min(position) into keep_from
  from (
    select c.position, c.at, sum(coalesce(m.bytes, 0)) over (order by c.position desc) as bytes_from_here
    from bonfire.outbox_commit as c
    left join (select xid, sum(pg_column_size(message)) as bytes from bonfire.outbox group by xid) as m on m.xid = c.xid
  ) as sized
  where at >= now() - max_age and bytes_from_here <= max_bytes
    or position = (select max(position) from bonfire.outbox_commit);
  with dropped as (
    delete from bonfire.outbox_commit where position < keep_from returning xid
  )
  delete from bonfire.outbox using dropped where outbox.xid = dropped.xid;
end
$$;

revoke all on function bonfire.take_position(), bonfire.place_commit(), bonfire.outbox_watermark(boolean),
  bonfire.enable_outbox(), bonfire.tend_outbox(boolean, interval, bigint, interval) from public;
