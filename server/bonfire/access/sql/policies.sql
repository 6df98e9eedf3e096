-- newest: the version that is in force.
select version, text, author, reason, at from bonfire.policy
where tenant = bonfire.current_tenant()
order by version desc
limit 1

-- version: one version.
select version, text, author, reason, at from bonfire.policy
where tenant = bonfire.current_tenant() and version = $1

-- put: the next version, which is in force from its commit on.
insert into bonfire.policy (version, text, author, reason)
select coalesce(max(version), 0) + 1, $1, $2, $3 from bonfire.policy where tenant = bonfire.current_tenant()
returning version
