-- Mutations: exactly once, by the id that the client made.

create table bonfire.mutation (
  tenant text not null default bonfire.current_tenant(),
  id text not null,
  -- What was asked (function and arguments), so that an id used for something else is noticed.
  digest bytea not null,
  answer bytea not null,
  -- The read models that it touched and the indexes that it left pending, as its first answer said.
  views text[] not null,
  pending text[] not null,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default statement_timestamp(),
  primary key (tenant, id)
);

-- Rows come in the order of time and go in it: a block range index costs the writers nothing.
create index on bonfire.mutation using brin (at);

alter table bonfire.mutation enable row level security;
create policy tenant on bonfire.mutation using (tenant = bonfire.current_tenant());
grant select, insert on bonfire.mutation to bonfire_app;

-- The first statement of a mutation's transaction. If the same id is being done elsewhere, this waits for the end of
-- it. A row is the first answer: then nothing is to be done again.
create function bonfire.begin_mutation(id text, digest bytea)
returns table (same boolean, answer bytea, views text[], pending text[], xid xid8)
language plpgsql volatile
as $$
#variable_conflict use_column
begin
  perform pg_advisory_xact_lock(hashtextextended(format('bonfire.mutation %s %s', bonfire.current_tenant(), begin_mutation.id), 0));
  perform set_config('bonfire.mutation', begin_mutation.id, true),
          set_config('bonfire.touched', '', true),
          set_config('bonfire.pending', '', true);
  -- A statement of its own: its snapshot is taken after the wait.
  return query
  select m.digest = begin_mutation.digest, m.answer, m.views, m.pending, m.xid
  from bonfire.mutation m
  where m.tenant = bonfire.current_tenant() and m.id = begin_mutation.id;
end
$$;

-- The names collected in a transaction-local setting, sorted, each once.
create function bonfire.collected(setting text) returns text[]
language sql stable
return (
  select coalesce(array_agg(distinct name order by name), '{}')
  from unnest(string_to_array(nullif(current_setting(setting, true), ''), ',')) name
);

-- The last statement of a mutation's transaction: keeps the answer, and tells the live engine whose transaction this was.
create function bonfire.finish_mutation(id text, digest bytea, answer bytea)
returns table (xid xid8, views text[], pending text[])
language plpgsql volatile
as $$
#variable_conflict use_column
declare
  kept record;
begin
  insert into bonfire.mutation as m (id, digest, answer, views, pending)
  values (finish_mutation.id, finish_mutation.digest, finish_mutation.answer,
          bonfire.collected('bonfire.touched'), bonfire.collected('bonfire.pending'))
  on conflict do nothing
  returning m.xid, m.views, m.pending into kept;
  if not found then
    -- A snapshot older than the wait in begin_mutation has not seen that it was done meanwhile.
    raise exception 'this mutation was done by another transaction meanwhile'
      using errcode = 'serialization_failure', hint = 'Run the transaction again.';
  end if;
  perform bonfire.emit(json_build_object('tenant', bonfire.current_tenant(), 'mutation', finish_mutation.id)::text);
  return query select kept.xid, kept.views, kept.pending;
end
$$;

-- Forgets answers older than `older_than`; returns how many. No client sends a mutation again after so long.
create function bonfire.prune_mutations(older_than interval) returns bigint
language sql volatile
begin atomic
  with pruned as (
    delete from bonfire.mutation where at < now() - older_than returning 1
  )
  select count(*) from pruned;
end;
