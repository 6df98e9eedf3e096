-- count_versions: how many versions a record has, not before the time $2 (null: ever).
select (select count(*) from public.<current>
        where tenant = bonfire.current_tenant() and id = $1 and ($2::timestamptz is null or ts >= $2))
     + (select count(*) from public.<history>
        where tenant = bonfire.current_tenant() and id = $1 and ($2::timestamptz is null or ts >= $2))
