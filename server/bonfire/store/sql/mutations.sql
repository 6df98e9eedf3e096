-- begin: waits while the same mutation is being done elsewhere; a row is the first answer.
select same, answer, views, pending, xid::text::bigint as xid from bonfire.begin_mutation($1, $2)

-- finish: keeps the answer, with the read models that this transaction touched and the indexes it left pending.
select xid::text::bigint as xid, views, pending from bonfire.finish_mutation($1, $2, $3)

-- prune: forgets old answers.
select bonfire.prune_mutations($1)
