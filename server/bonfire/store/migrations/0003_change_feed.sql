-- The change feed in SQL: every version of a type's records, once, for readers that remember how far they came.

-- The versions after (after_xid, after_txid) in that order, of the current tenant: tombstones too, and versions that were
-- replaced since. A reader goes on from the xid and txid of the last row that it got; ('0', 0) is the beginning.
-- It stops before the oldest transaction that still runs: one with a lower number may yet commit, and a reader that had gone
-- past it would never see its rows. Sequence numbers give no such promise, as they are not handed out in commit order.
-- It may give more rows than asked for: those that one statement gave the same txid come together.
create function bonfire.changes(
  resource_type text, after_xid xid8 default '0', after_txid bigint default 0, row_limit integer default 1000
) returns table (
  id text, txid bigint, ts timestamptz, cts timestamptz, type text, status public.resource_status,
  resource jsonb, tenant text, xid xid8
)
language plpgsql stable
as $$
begin
  if not exists (
    select from pg_trigger
    where tgrelid = to_regclass(format('public.%I', lower(resource_type))) and tgname = 'bonfire_10_history_insert'
  ) then
    raise exception 'there are no records of that type' using errcode = 'invalid_parameter_value';
  end if;
  return query execute format(
    $sql$
    (
      select * from public.%1$I
      where tenant = bonfire.current_tenant() and (xid, txid) > ($1, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
      order by xid, txid fetch first $3 rows with ties
    )
    union all
    (
      select * from public.%2$I
      where tenant = bonfire.current_tenant() and (xid, txid) > ($1, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
      order by xid, txid fetch first $3 rows with ties
    )
    order by xid, txid fetch first $3 rows with ties
    $sql$,
    lower(resource_type), lower(resource_type) || '_history'
  ) using after_xid, after_txid, row_limit;
end
$$;
