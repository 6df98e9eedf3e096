-- Whoever reads a read model may see which declaration it was built from: a server of another version must not pass its rows
-- off as its own.
grant select on bonfire.read_model to bonfire_app;
