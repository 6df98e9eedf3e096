-- trigger: one event of a table runs one function.
create or replace trigger {{trigger}} after {{event}} on {{table}}
referencing {{transitions}} for each statement execute function {{function}}({{arguments}})

-- trigger_function: what a statement on a source's table does to the models made from it, in two ways.
create or replace function {{function}}() returns trigger
language plpgsql security definer{{settings}} set enable_seqscan = off
as $bonfire_body$
#variable_conflict use_column
declare
  row_count bigint;
  the_tenant text;
  the_source text;
  the_patients text[];
  the_row record;
  the_group record;
  latest_row record;
  view_rows text;
  came_back boolean;
  part record;
  views text := '';
  touched text[] := '{}';
  kept_jit text;
  group_tenants text[];
  group_ids text[];{{variables}}
begin
  select count(*) into row_count from {{rows}};
  if row_count = 0 then
    return null;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform bonfire.require_seen({{source}}, {{build}});
  end if;
  if row_count = 1 then
    -- Plans that the session keeps. A table may be empty when they are made and large later on, so each look-up names its
    -- row by plain values: a join might be planned as a scan of the whole index.
    select t.tenant, t.source, t.patients{{belongs}} into the_tenant, the_source, the_patients{{belongs}}
    from (
      {{touch_one}}
    ) t;
{{one}}
    perform bonfire.tell(the_tenant, the_source, the_patients, substr(views, 2));
  else
    -- Plans made at each call, for as many rows as there are. Compiling one as large takes longer than running it.
    kept_jit := current_setting('jit');
    perform set_config('jit', 'off', true);
    for the_tenant, the_source, the_patients in
      {{touch_many}}
    loop
      perform bonfire.tell(the_tenant, the_source, the_patients, '');
    end loop;
{{many}}
    perform set_config('jit', kept_jit, true);
  end if;
  perform bonfire.add_touched(touched);
  return null;
end
$bonfire_body$

-- touch: whose records were written, of which tenant and source; null where they are too many to name.
select r.tenant, r.source, bonfire.few(array_agg(distinct r.patient)) as patients{{belongs}}
from ({{rows}}) r
group by r.tenant, r.source

-- touch_rows: the tenant, source and patient of the rows of one transition table, and what they belong to.
select r.tenant, {{source}} as source, {{patient}} as patient{{belongs}} from {{rows}} r

-- if_belongs: a model that the row neither is of nor was of has nothing to do.
    if {{variable}} then
{{step}}
    end if;

-- deleted: the rows that a source does not give any more, as a projection gives them; one that the same statement has
-- put back is no such row.
select o.tenant, o.id, false as keep{{columns}}
from (select r.tenant, ({{id}}) collate "C" as id{{source_key}} from old_rows r where {{scope}}) o
where not exists (select from ({{projection}}) p where p.keep)

-- again: the row of a source's table with the key of `o`.
(select s.* from {{table}} s where {{row}})

-- told_one: a model's changed row is remembered for the message; nothing, where nothing has changed.
    if view_rows is not null then
      views := views || ',' || {{head}} || view_rows || ']}';
      touched := touched || {{name}};
    end if;

-- told_many: a model's changed rows are told in parts of some 256 KB.
    for part in execute $bonfire_many$
      {{statement}}
      select tenant, string_agg(line, ',') as view_rows, bool_or(came_back) as came_back
      from (
        select *, sum(octet_length(line)) over (partition by tenant rows unbounded preceding) / 262144 as part
        from lines
      ) numbered
      group by tenant, part
    $bonfire_many${{arguments}} loop
      perform bonfire.emit(
        '{"tenant":' || to_json(part.tenant) || ',"views":[' || {{head}} || part.view_rows || ']}]}');
      touched := touched || {{name}};
      if part.came_back then
        perform bonfire.emit({{reset}});
      end if;
    end loop;

-- insert: new rows go into the table.
insert into {{table}} as t ({{columns}})
select {{columns}} from ({{projection}}) p where p.keep
on conflict (tenant, id) do update set {{updates}}

-- insert_one: new rows of one model, for a statement of one row. A row that was there before came back in the statement
-- that deleted it, and may have had another key: then screens read afresh.
{{insert}}
    returning {{line}}, t.xmax <> 0 into view_rows, came_back;
    if came_back then
      perform bonfire.emit({{reset}});
    end if;

-- insert_many: new rows of one model.
with lines as (
  {{insert}}
  returning t.tenant, {{line}} as line, t.xmax <> 0 as came_back
)

-- change_one: brings a table to what one row is now; says into `view_rows` what has changed.
    select p.*, {{old_key}} as old_key, t.id is not null as was{{old_group}} into {{variable}}
    from ({{projection}}) p
    left join lateral (select * from {{table}} t where t.tenant = p.tenant and t.id = p.id offset 0) t on true
    where case when p.keep then t.id is null or {{differs}} else t.id is not null end;
    view_rows := {{before}};
    if found then
      if {{variable}}.keep then
        insert into {{table}} as t ({{columns}}) values ({{values}})
        on conflict (tenant, id) do update set {{updates}}{{returning}};
      else
        delete from {{table}} t where t.tenant = {{variable}}.tenant and t.id = {{variable}}.id;{{gone}}
      end if;{{then}}
    end if;

-- change: brings a table to what many rows are now; `d` holds what differs.
with d as materialized (
  select p.*, {{old_key}} as old_key, t.id is not null as was{{old_group}}
  from ({{projection}}) p
  left join {{table}} t on t.tenant = p.tenant and t.id = p.id
  where case when p.keep then t.id is null or {{differs}} else t.id is not null end
), gone as (
  delete from {{table}} t using d where not d.keep and t.tenant = d.tenant and t.id = d.id
), put as (
  insert into {{table}} ({{columns}}) select {{columns}} from d where d.keep
  on conflict (tenant, id) do update set {{updates}}
)

-- change_many: the same, and what is told of it.
{{change}}, lines as (
  select d.tenant, {{line}} as line, false as came_back from d
)

-- groups_one: after a candidate has changed: each group that it is in or was in is locked by writing it, in one order, so
-- that two writers of a group take turns; then its first candidate is looked for, by a snapshot taken after the wait.
      insert into bonfire.read_group as g (model, tenant, id)
      select {{name}}, v.tenant, v.id from ({{groups}}) v order by v.id
      on conflict (model, tenant, id) do update set version = g.version + 1;
      view_rows := null;
      for the_group in {{groups}} loop
        {{step}}
      end loop;

-- groups_of_row: the groups of a changed candidate, as it is and as it was.
select the_row.tenant, the_row.new_group as id{{new_values}} where the_row.keep
union
select the_row.tenant, the_row.old_group{{old_values}} where the_row.was

-- groups_many: the same for many candidates: remembers their groups.
    execute $bonfire_many$
      {{change}}, groups as (
        select d.tenant, {{new_group}} as id{{new_values}} from d where d.keep
        union
        select d.tenant, d.old_group{{old_values}} from d where d.was
      ), locked as (
        insert into bonfire.read_group as g (model, tenant, id)
        select {{name}}, tenant, id from groups order by tenant, id
        on conflict (model, tenant, id) do update set version = g.version + 1
      )
      select array_agg(tenant), array_agg(id){{arrays}} from groups
    $bonfire_many$ into {{variables}};
    if group_ids is not null then
{{step}}
    end if;

-- latest_of_groups: the first candidate of each group, or none.
select g.tenant, g.id, c.id is not null as keep{{columns}}
from {{groups}} g (tenant, id{{names}})
left join lateral (
  select * from {{candidates}} c
  where c.tenant = g.tenant{{matches}}
  order by {{order}}
  limit 1
) c on true
