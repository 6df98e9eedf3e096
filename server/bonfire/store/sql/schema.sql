-- facts: all that migrations make in the schemas bonfire and public, one fact a row, grouped by object.
with spaces as (
  select oid, nspname from pg_namespace where nspname in ('bonfire', 'public')
),
tables as (
  select format('%I.%I', s.nspname, c.relname) as name, c.*
  from pg_class c join spaces s on s.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'S')
    and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i')
),
facts (object, part, place, fact) as (
  select format('schema %I', nspname), 1, '',
         'granted to bonfire_app: ' || string_agg(a.privilege_type, ', ' order by a.privilege_type)
  from pg_namespace n, aclexplode(n.nspacl) a
  where n.oid in (select oid from spaces) and a.grantee = 'bonfire_app'::regrole
  group by nspname
  union all
  select format('type %I.%I', s.nspname, t.typname), 1, '',
         'enum ' || string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
  from pg_type t join spaces s on s.oid = t.typnamespace join pg_enum e on e.enumtypid = t.oid
  group by s.nspname, t.typname
  union all
  select 'table ' || name, 1, '',
         concat_ws(', ',
           case relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'S' then 'sequence' else 'view' end,
           case when relrowsecurity then 'row security' end, case when relforcerowsecurity then 'forced' end,
           case relpersistence when 'u' then 'unlogged' end, array_to_string(reloptions, ', '))
  from tables
  union all
  select 'table ' || t.name, 2, lpad(a.attnum::text, 3, '0'),
         format('column %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                case when a.attnotnull then ' not null' end,
                case when a.attidentity <> '' then ' identity' end,
                ' default ' || pg_get_expr(d.adbin, d.adrelid))
  from tables t
  join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
  where t.relkind <> 'S'
  union all
  select 'table ' || t.name, 3, c.conname, format('constraint %I %s', c.conname, pg_get_constraintdef(c.oid))
  from tables t join pg_constraint c on c.conrelid = t.oid
  where c.contype <> 'n'
  union all
  select 'table ' || t.name, 4, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
  from tables t join pg_index i on i.indrelid = t.oid
  union all
  select 'table ' || t.name, 5, g.tgname, pg_get_triggerdef(g.oid)
  from tables t join pg_trigger g on g.tgrelid = t.oid
  where not g.tgisinternal
  union all
  select 'table ' || t.name, 6, p.polname,
         format('policy %I for %s using %s check %s', p.polname,
                case p.polcmd when '*' then 'all' else p.polcmd::text end,
                pg_get_expr(p.polqual, p.polrelid), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'the same'))
  from tables t join pg_policy p on p.polrelid = t.oid
  union all
  select 'table ' || t.name, 7, '',
         'granted to bonfire_app: ' || string_agg(a.privilege_type, ', ' order by a.privilege_type)
  from tables t, aclexplode(t.relacl) a
  where a.grantee = 'bonfire_app'::regrole
  group by t.name
  union all
  select format('function %I.%I(%s)', s.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), 1, '',
         rtrim(pg_get_functiondef(p.oid), E'\n')
  from pg_proc p join spaces s on s.oid = p.pronamespace
  where p.prokind in ('f', 'p') and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
)
select object, fact from facts order by object collate "C", part, place collate "C", fact collate "C"
