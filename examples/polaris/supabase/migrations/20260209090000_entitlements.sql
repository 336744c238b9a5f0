-- What people paid for, and numbers drawn from the rest.

create schema if not exists private;

create table public.entitlements (
    id uuid primary key default gen_random_uuid(),
    profile_id uuid not null references public.profiles (id) on delete cascade,
    product text not null,
    source text not null check (source in ('paypal', 'paymongo', 'gift')),
    external_id text unique,
    valid_from date not null,
    valid_to date,
    check (valid_to is null or valid_to > valid_from)
);

create index entitlements_profile on public.entitlements (profile_id, product);

alter table public.entitlements enable row level security;

create policy "People see what they paid for"
on public.entitlements for select to authenticated
using ((select auth.uid()) = profile_id);

create function public.has_entitlement(who uuid, what text) returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $fn$
declare
    found_one boolean;
begin
    -- A body may well hold 'quotes', "names" and $dollars$ of its own.
    execute $q$
        select exists (
            select 1 from public.entitlements e
            where e.profile_id = $1 and e.product = $2
              and e.valid_from <= current_date
              and (e.valid_to is null or e.valid_to > current_date)
        )
    $q$ into found_one using who, what;
    return found_one;
end
$fn$;

create function public.drill_average(drill bigint) returns numeric
language sql
stable
begin atomic
    select round(avg(a.score), 2) from public.attempts a where a.drill_id = drill;
end;

create view public.leaderboard as
select p.handle, p.display_name, p.rank, count(a.id) as attempts, round(avg(a.score), 2) as average
from public.profiles p
join public.attempts a on a.profile_id = p.id
group by p.id, p.handle, p.display_name, p.rank;

create materialized view private.room_stats as
select room, count(*) as messages, max(created_at) as last_at
from public.messages
group by room;

create unique index room_stats_room on private.room_stats (room);
