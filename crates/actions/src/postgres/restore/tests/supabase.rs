//! A target in which a platform owns schemas and `postgres` is no superuser.

use super::*;

/// Roles and schemas as far as they matter here: auth and storage belong to their own roles.
const PLATFORM: &str = "
create schema auth authorization supabase_auth_admin;
create schema storage authorization supabase_storage_admin;
create schema extensions;
set role supabase_auth_admin;
create table auth.schema_migrations (version text primary key);
insert into auth.schema_migrations values ('1'), ('2');
create table auth.users (id uuid primary key, email text);
create table auth.identities (id uuid primary key, user_id uuid not null references auth.users on delete cascade);
create function auth.uid() returns uuid language sql as 'select null::uuid';
alter table auth.users enable row level security;
grant usage on schema auth to app; grant all on all tables in schema auth to app;
reset role;
set role supabase_storage_admin;
create table storage.objects (id uuid primary key, name text);
alter table storage.objects enable row level security;
grant usage on schema storage to app; grant all on all tables in schema storage to app;
reset role;
create publication supabase_realtime;
alter publication supabase_realtime owner to app;
alter schema public owner to app;
";

struct Project {
    stage: Stage,
}

async fn project() -> Project {
    let cluster = cluster().await;
    let admin = cluster.open("postgres", "postgres").await;
    admin
        .sql("create role supabase_admin superuser login; create role supabase_auth_admin; create role supabase_storage_admin; create role anon; create role app login createrole bypassrls; \
              grant supabase_storage_admin to app; grant set on parameter session_replication_role to app")
        .await;
    let source = cluster.database("source").await;
    source.sql(PLATFORM).await;
    source.sql("alter database source owner to app").await;
    cluster.open("source", "app").await.sql(include_str!("source.sql")).await;
    cluster
        .open("source", "app")
        .await
        .sql(
            "insert into auth.users select gen_random_uuid(), 'u' || n from generate_series(1, 50) n;
             insert into auth.identities select gen_random_uuid(), id from auth.users;
             insert into storage.objects select gen_random_uuid(), 'o' || n from generate_series(1, 20) n;
             create table profiles (id uuid primary key references auth.users);
             create function new_user() returns trigger language plpgsql security definer as
               'begin insert into public.profiles values (new.id) on conflict do nothing; return new; end';
             insert into profiles select id from auth.users;
             create trigger on_user after insert on auth.users for each row execute function new_user();
             create policy mine on storage.objects for select using (name like 'o%');
             alter publication supabase_realtime add table messages;",
        )
        .await;
    source.sql("alter default privileges for role supabase_admin in schema public grant select on tables to anon").await;
    let mut target = cluster.database("target").await;
    target.sql(PLATFORM).await;
    target.sql("alter database target owner to app").await;
    target.connection.user = "app".into();
    target.sql("delete from auth.schema_migrations where version = '1'").await;
    let bucket = Bucket::start().await;
    let world = World::new(cluster.folder.path(), Some(bucket.settings()));
    Project { stage: Stage { source, target, bucket, world, cluster } }
}

fn supabase(stage: &Stage, args: &[&str]) -> RestoreParams {
    RestoreParams { profile: Profile::Supabase, ..stage.dumped(&stage.source.dump(args)) }
}

#[tokio::test]
async fn what_the_platform_owns_stays_and_what_users_made_comes_back() {
    for args in [&[][..], &["-Fc"]] {
        let Project { stage } = project().await;
        let outputs = stage.restore(1, &supabase(&stage, args)).await.unwrap_or_else(|e| panic!("{e:#?}"));
        let mut expected = stage.source.contents().await;
        for (table, sum) in &mut expected {
            if table == "auth.schema_migrations" {
                *sum = stage.target.text("select count(*) || ' ' || md5(string_agg(t::text, '|')) from auth.schema_migrations t").await;
                assert!(sum.starts_with("1 "), "the target keeps its own migrations");
            }
        }
        assert_eq!(expected, stage.target.contents().await, "{args:?}");
        let count = |sql: &'static str| stage.target.text(sql);
        assert_eq!(count("select count(*) || '' from pg_trigger where tgname = 'on_user'").await, "1");
        assert_eq!(count("select count(*) || '' from pg_policy where polname = 'mine'").await, "1");
        assert_eq!(count("select count(*) || '' from pg_publication_tables").await, "1");
        let skipped: Vec<_> = outputs.skipped.iter().map(|s| s.object.as_str()).collect();
        assert!(skipped.iter().any(|s| s.contains("auth.users")), "{skipped:?}");
        assert!(skipped.contains(&"rows of auth.schema_migrations"), "{skipped:?}");
        assert!(outputs.skipped.iter().all(|s| !s.reason.is_empty()));
    }
}

#[tokio::test]
async fn an_orphan_in_the_platforms_tables_is_listed_by_table_and_key() {
    let Project { stage } = project().await;
    stage.source.sql("set session_replication_role = replica; insert into auth.identities values (gen_random_uuid(), '00000000-0000-0000-0000-00000000dead')").await;
    let error =
        stage.restore(1, &supabase(&stage, &["--exclude-table-data=public.profiles"])).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(
        error.code == Some("orphans") && told.contains("auth.identities") && told.contains("dead"),
        "{told}"
    );
}

#[tokio::test]
async fn bytes_that_do_not_match_are_removed_from_the_platforms_tables_as_well() {
    let Project { stage } = project().await;
    let before = stage.target.schema();
    let params = supabase(&stage, &[]);
    let mut bytes = stage.source.dump(&[]);
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    stage.bucket.put("d", &bytes);
    let error = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(error.code, Some("checksum-mismatch"), "{error:#?}");
    similar(&before, &stage.target.schema(), "emptied");
    assert_eq!(
        stage
            .target
            .text("select (select count(*) from auth.users) + (select count(*) from storage.objects) || ''")
            .await,
        "0"
    );
    assert_eq!(stage.target.text("select count(*) || '' from auth.schema_migrations").await, "1");
}
