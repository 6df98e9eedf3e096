-- Tells of each change by the changed row itself.
create function tell() returns trigger language plpgsql as $$
begin
    perform pg_notify('notes', row_to_json(new)::text);
    return null;
end
$$;
create trigger tell after insert or update on note for each row execute function tell();
