-- Tells of each change by the patient's id: who listens reads the rows again.
create function tell() returns trigger language plpgsql as $$
begin
    perform pg_notify('notes', new.patient);
    return null;
end
$$;
create trigger tell after insert or update on note for each row execute function tell();
