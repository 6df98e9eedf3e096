-- projection: the rows that a source gives a model, whether they belong or not (`keep`). `offset 0` keeps each expression to
-- one evaluation, and those of rows that do not belong to none.
select q.tenant, q.id, {{kept}} as keep{{checked}}, q.facets
from (
  select r.tenant, {{id}} as id, r.belongs{{raw}},
    case when r.belongs then {{facets}} end as facets
  from (
    select r.*, ({{where}}
    ) is true as belongs
    from {{rows}} r{{scope}}
    offset 0
  ) r
  offset 0
) q

-- row_json: a row as messages and snapshots spell it.
(select row_to_json(j)::text from (select {{id}} as id, {{fields}}) j)

-- kept: the rows that belong.
select {{columns}} from ({{rows}}) p where p.keep

-- candidates: all rows of all groups of a latest-per-key model.
select true as keep, {{columns}} from {{table}}

-- table: a model's table, still without indexes.
create table {{build}} (tenant text collate "C" not null, id text collate "C" not null{{columns}}, facets text[] not null)
with (fillfactor = {{fill}})

-- fill: the rows that belong, from one source.
insert into {{table}} ({{columns}}) select {{columns}} from ({{projection}}) p where p.keep

-- latest: of rows that are there several times a group, the first of each group.
select distinct on (p.tenant, p.group_id) p.tenant, p.group_id as id, true as keep{{columns}}
from (select c.*, {{group_id}} as group_id from ({{rows}}) c where c.keep) p
order by p.tenant, p.group_id, {{order}}

-- snapshot: the rows under the key $1, in order, at most $2, as the messages spell them.
select {{row}} as row
from {{table}} t
where t.tenant = bonfire.current_tenant() and {{key}}
order by {{order}}
limit $2::bigint

-- differences: rows of a table that are not as the source gives them, one row a difference, with the number of all.
select coalesce(t.tenant, p.tenant) as tenant, coalesce(t.id, p.id) as id,
       case when t.id is null then 'missing' when p.id is null then 'extra' else 'different' end as kind,
       count(*) over () as total
from {{table}} t
full join ({{rows}}) p on p.tenant = t.tenant and p.id = t.id
where t.id is null or p.id is null or {{differs}}
order by 1, 2
limit $1

-- installed_models: the read models as they are installed.
select name, fingerprint, sources from bonfire.read_model

-- installed_sources: the tables whose triggers are generated.
select source, fingerprint from bonfire.read_source

-- note_model: a model is installed.
insert into bonfire.read_model (name, fingerprint, sources, rows) values ($1, $2, $3, $4)
on conflict (name) do update
set fingerprint = excluded.fingerprint, sources = excluded.sources, rows = excluded.rows, built_at = clock_timestamp()

-- forget_model: a model is no more.
delete from bonfire.read_model where name = $1

-- forget_groups: nobody takes turns on a model's groups any more.
delete from bonfire.read_group where model = $1

-- note_source: a source's triggers are generated.
insert into bonfire.read_source (source, fingerprint, build) values ($1, $2, $3)
on conflict (source) do update set fingerprint = excluded.fingerprint, build = excluded.build

-- forget_source: a source has no generated triggers any more.
delete from bonfire.read_source where source = $1

-- reset: the live engine reads these models afresh.
select bonfire.emit(json_build_object('reset', $1::text[])::text)

-- finish_table: the table's key, and which rows its readers see; then it takes the place of the old one.
alter table {{build}} add primary key (tenant, id);
{{indexes}}
analyze {{build}};
alter table {{build}} enable row level security;
create policy tenant on {{build}} for select using (
  tenant = bonfire.current_tenant() and (bonfire.sees_all() or bonfire.in_reach(facets, (select bonfire.reach())))
);
grant select on {{build}} to bonfire_app;
comment on table {{build}} is {{description}};
drop table if exists {{table}};
alter table {{build}} set schema read

-- finish_candidates: the key and the order of a latest-per-key model's candidates, which nobody but the owner reads.
alter table {{table}} add primary key (tenant, id);
create index on {{table}} ({{terms}});
alter table {{table}} enable row level security;
create policy tenant on {{table}} using (tenant = bonfire.current_tenant());
analyze {{table}}

-- list_index: the order of the model's lists.
create index on {{build}} ({{terms}});

-- probe: one expression over a source's rows, for the database to judge.
create view read_build.probe as select (
{{expression}}
) as value from {{table}} r

-- probed: what the view of an expression is made of: its columns' types, its query's tree, what it calls and reads.
with tree as (
  select ev_action::text as text from pg_rewrite where ev_class = 'read_build.probe'::regclass
)
select
  array(
    select atttypid::regtype::text from pg_attribute
    where attrelid = 'read_build.probe'::regclass and attnum > 0 order by attnum
  ) as types,
  substring(tree.text from ':hasAggs (\w+)') = 'true'
    or substring(tree.text from ':hasWindowFuncs (\w+)') = 'true'
    or substring(tree.text from ':hasTargetSRFs (\w+)') = 'true' as many_rows,
  strpos(tree.text, '{SQLVALUEFUNCTION ') > 0 as session_value,
  array(
    select distinct p.oid::regprocedure::text
    from regexp_matches(tree.text, ':(?:funcid|opfuncid) (\d+)', 'g') called (oid)
    join pg_proc p on p.oid = called.oid[1]::oid
    where p.provolatile = 'v'
      or p.proname in ('now', 'transaction_timestamp', 'statement_timestamp', 'current_setting', 'current_tenant')
    order by 1
  ) as unsteady,
  array(
    select distinct c.oid::regclass::text
    from regexp_matches(tree.text, ':relid (\d+)', 'g') read (oid)
    join pg_class c on c.oid = read.oid[1]::oid
    where c.oid not in ('read_build.probe'::regclass, $1::text::regclass)
    order by 1
  ) as tables
from tree
