-- The roles of a Supabase project, once for the cluster. `supabase_admin` is the superuser that initdb made.

create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator noinherit login;
grant anon, authenticated, service_role to authenticator;

-- What people get as "the database password": no superuser.
create role postgres login createdb createrole replication bypassrls;
grant anon, authenticated, service_role, authenticator to postgres;
grant pg_monitor, pg_signal_backend to postgres;

create role supabase_auth_admin noinherit createrole login;
create role supabase_storage_admin noinherit login;
grant authenticator to supabase_storage_admin;
create role supabase_read_only_user bypassrls;
create role dashboard_user createdb createrole replication;

-- supautils lets `postgres` set this one; PostgreSQL itself can grant it since 15.
do $$
begin
    if current_setting('server_version_num')::int >= 150000 then
        execute 'grant set on parameter session_replication_role to postgres';
    end if;
end
$$;
