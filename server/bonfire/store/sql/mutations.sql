-- begin: waits while the same mutation is being done elsewhere. One row: facts of the caller and whom they act for; the first answer.
select b.same, b.answer, b.views, b.pending, b.xid::text::bigint as xid, bonfire.access_facts($3)::text as facts,
  case when $4::text is not null then bonfire.access_facts($4)::text end as facts_behind
from (select) one left join lateral bonfire.begin_mutation($1, $2) b on true

-- finish: keeps the answer, with the read models that this transaction touched and the indexes it left pending.
select xid::text::bigint as xid, views, pending from bonfire.finish_mutation($1, $2, $3)

-- prune: forgets old answers.
select bonfire.prune_mutations($1)
