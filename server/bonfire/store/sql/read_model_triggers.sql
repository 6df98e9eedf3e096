-- trigger_function: what a statement on a source's table does to the models made from it; {{one}} for a single row, {{many}} for more.
create or replace function {{function}}() returns trigger
language plpgsql security definer{{settings}} set enable_seqscan = off
as $bonfire_body$
#variable_conflict use_column
declare
  row_count bigint;
  the_tenant text;
  the_source text;
  the_patients text[];
  view_rows text;
  came_back boolean;
  part record;
  views text := '';
  touched text[] := '{}';
  kept_jit text;
  group_tenants text[];
  group_ids text[];{{group_variables}}
begin
  select count(*) into row_count from {{rows}};
  if row_count = 0 then
    return null;
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform bonfire.require_seen({{source}}, {{fingerprint}});
  end if;
  if row_count = 1 then
    select t.tenant, t.source, t.patients into the_tenant, the_source, the_patients
    from (
      {{touch}}
    ) t;
{{one}}
    perform bonfire.tell(the_tenant, the_source, the_patients, substr(views, 2));
  else
    for the_tenant, the_source, the_patients in
      {{touch}}
    loop
      perform bonfire.tell(the_tenant, the_source, the_patients, '');
    end loop;
    -- Compiling a plan this large takes longer than running it.
    kept_jit := current_setting('jit');
    perform set_config('jit', 'off', true);
{{many}}
    perform set_config('jit', kept_jit, true);
  end if;
  perform bonfire.add_touched(touched);
  return null;
end
$bonfire_body$

-- touch: whose records were written, of which tenant and source; null where they are too many to name.
select r.tenant, r.source, bonfire.few(array_agg(distinct r.patient)) as patients
from ({{rows}}) r
group by r.tenant, r.source

-- touch_rows: the tenant, source and patient of the rows of one transition table.
select r.tenant, {{source}} as source, {{patient}} as patient from {{rows}} r

-- one: a single row's change of one model.
    {{statement}}
    if view_rows is not null then
      views := views || ',' || {{head}} || view_rows || ']}';
      touched := touched || {{name}};
    end if;

-- one_insert: the same for a row that is new; one that came back in the statement that deleted it may have had another key.
    {{statement}}
    if view_rows is not null then
      views := views || ',' || {{head}} || view_rows || ']}';
      touched := touched || {{name}};
      if came_back then
        perform bonfire.emit({{reset}});
      end if;
    end if;

-- many: many rows' change of one model, told in parts of some 256 KB. Planned at each call, for as many rows as there are.
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

-- if_grouped: the second step of a latest-per-key model, when the first has touched a group.
    if group_ids is not null then
{{step}}
    end if;

-- insert: new rows go into the table.
insert into {{table}} as t ({{columns}})
select {{columns}} from ({{projection}}) p where p.keep
on conflict (tenant, id) do update set {{assignments}}

-- insert_one: {{insert}} for one row.
{{insert}}
    returning {{line}}, t.xmax <> 0 into view_rows, came_back;

-- insert_many: {{insert}} for many rows.
with lines as (
  {{insert}}
  returning t.tenant, {{line}} as line, t.xmax <> 0 as came_back
)

-- change: rows that may or may not have been there before are put or taken out; `d` holds what differs.
with d as materialized (
  select p.*, {{old_key}} as old_key, t.id is not null as was{{old_group}}
  from ({{projection}}) p
  left join {{table}} t on t.tenant = p.tenant and t.id = p.id
  where case when p.keep then t.id is null or {{differs}} else t.id is not null end
), gone as (
  delete from {{table}} t using d where not d.keep and t.tenant = d.tenant and t.id = d.id
), put as (
  insert into {{table}} ({{columns}}) select {{columns}} from d where d.keep
  on conflict (tenant, id) do update set {{assignments}}
)

-- change_one: {{change}} for one row.
{{change}}
    select {{line}} into view_rows from d;

-- change_one_of_many: {{change}} for the one or two groups of one row.
{{change}}
    select string_agg({{line}}, ',') into view_rows from d;

-- change_many: {{change}} for many rows.
{{change}}, lines as (
  select d.tenant, {{line}} as line, false as came_back from d
)

-- delete: rows that went from the source go, unless the same statement has put them back.
delete from {{table}} t
using (select r.tenant, {{id}} as id{{source_key}} from old_rows r{{scope}}) o
where t.tenant = o.tenant and t.id = o.id
  and not exists (select from ({{projection}}) p where p.keep)

-- again: the row of a source's table with the key of `o`.
(select s.* from {{table}} s where {{row}})

-- delete_one: {{delete}} for one row.
{{delete}}
    returning {{line}} into view_rows;

-- delete_many: {{delete}} for many rows.
with lines as (
  {{delete}}
  returning t.tenant, {{line}} as line, false as came_back
)

-- groups: the groups touched, each locked by writing it, in one order, so that two writers of a group take turns.
groups as (
  {{rows}}
), locked as (
  insert into bonfire.read_group as g (model, tenant, id)
  select {{name}}, tenant, id from groups order by tenant, id
  on conflict (model, tenant, id) do update set version = g.version + 1
)

-- groups_one: remember the groups that one row touches.
    {{groups}}
    select array_agg(tenant), array_agg(id){{values}} into {{variables}} from groups;

-- groups_many: remember the groups that many rows touch.
    execute $bonfire_many$
      {{groups}}
      select array_agg(tenant), array_agg(id){{values}} from groups
    $bonfire_many$ into {{variables}};

-- changed_groups: the groups of changed candidates, as they are and as they were.
select d.tenant, {{new_group}} as id{{new_values}} from d where d.keep
union
select d.tenant, {{old_group}}{{old_values}} from d where d.was

-- deleted_groups: the groups of deleted candidates.
select distinct t.tenant, {{group}} as id{{values}} from gone t

-- latest_of_groups: the first candidate of each touched group, or none.
select g.tenant, g.id, c.id is not null as keep{{columns}}
from unnest({{arrays}}) g (tenant, id{{names}})
left join lateral (
  select * from {{candidates}} c
  where c.tenant = g.tenant{{matches}}
  order by {{order}}
  limit 1
) c on true

-- trigger: one event of a table runs one function.
create or replace trigger {{trigger}} after {{event}} on {{table}}
referencing {{transitions}} for each statement execute function {{function}}({{arguments}})
