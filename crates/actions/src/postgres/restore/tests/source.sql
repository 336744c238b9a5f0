create type mood as enum ('sad', 'ok', 'it''s; fine');
create table users (
    id bigint generated always as identity primary key,
    name text not null,
    mood mood default 'ok',
    upper_name text generated always as (upper(name)) stored
);
create table "Odd ""name" ("a b" text, "c;d" int);
create table messages (
    id bigserial primary key,
    user_id bigint not null references users,
    body text,
    at timestamptz not null default '2026-01-01'
);
create index messages_user on messages (user_id);
create unique index users_name on users (lower(name));
create table empty_one (x int check (x > 0));
create table parts (id int, region text) partition by list (region);
create table parts_eu partition of parts for values in ('eu');
create table parts_us partition of parts for values in ('us');
create view loud as select id, upper_name from users;
create materialized view per_user as select user_id, count(*) as n from messages group by user_id;
create unique index per_user_id on per_user (user_id);
create function touch() returns trigger language plpgsql as $fn$
begin
    new.at := new.at; -- a; semicolon
    return new;
end $fn$;
create trigger messages_touch before update on messages for each row execute function touch();
create function atomic(a int) returns int language sql begin atomic select a + 1; end;
alter table messages enable row level security;
create policy own on messages using (user_id = 1);
comment on table users is 'people';
insert into users (name) select 'user ' || n from generate_series(1, 500) n;
insert into messages (user_id, body) select 1 + n % 500, repeat('words and more ', 1 + n % 9) || n from generate_series(1, 30000) n;
insert into messages (user_id, body) values (1, E'\\.\n\\connect evil\n\\! touch x\tand\\more'), (2, null), (3, '');
insert into "Odd ""name" values ('x', 1), (E'tab\there', null);
insert into parts select n, case when n % 2 = 0 then 'eu' else 'us' end from generate_series(1, 100) n;
refresh materialized view per_user;
select lo_from_bytea(70001, convert_to(repeat('large object ', 20000), 'UTF8'));
