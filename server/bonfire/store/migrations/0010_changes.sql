-- The change feed: how a transaction tells the live engine what it changed.

create schema if not exists bonfire;

-- Tells the live engine `message` (JSON, see docs/architecture.md) if and when this transaction commits.
create function bonfire.emit(message text) returns void
language sql volatile parallel unsafe
begin atomic
  select pg_logical_emit_message(true, 'bonfire', message);
end;

comment on function bonfire.emit(text) is
  'Tells the live engine a JSON message when this transaction commits; nothing is told when it rolls back.';
