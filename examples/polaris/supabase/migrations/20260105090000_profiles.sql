-- People, one row for each account, made by a trigger when the account is made.

create type public.rank as enum ('cadet', 'pilot', 'navigator', 'captain');

create table public.profiles (
    id uuid primary key references auth.users (id) on delete cascade,
    handle text not null unique check (handle ~ '^[a-z][a-z0-9_]{2,31}$'),
    display_name text not null,
    bio text,
    rank public.rank not null default 'cadet',
    settings jsonb not null default '{}'::jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.profiles is 'What others see of a person; "auth.users" holds the rest.';

create function public.touch_updated_at() returns trigger
language plpgsql
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create trigger profiles_touch
before update on public.profiles
for each row execute function public.touch_updated_at();

create function public.handle_new_user() returns trigger
language plpgsql
security definer
set search_path = ''
as $function$
begin
    insert into public.profiles (id, handle, display_name)
    values (
        new.id,
        coalesce(new.raw_user_meta_data ->> 'handle', 'user_' || left(replace(new.id::text, '-', ''), 12)),
        coalesce(new.raw_user_meta_data ->> 'name', split_part(new.email, '@', 1))
    );
    return new;
end
$function$;

create trigger on_auth_user_created
after insert on auth.users
for each row execute function public.handle_new_user();

alter table public.profiles enable row level security;

create policy "Profiles are seen by everyone who signed in"
on public.profiles for select to authenticated
using (true);

create policy "People change their own profile"
on public.profiles for update to authenticated
using ((select auth.uid()) = id)
with check ((select auth.uid()) = id);
