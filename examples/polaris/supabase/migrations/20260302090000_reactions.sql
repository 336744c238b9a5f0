-- Reactions to messages. In the sandbox this one comes after the backup: a restore has to bring it back.

create table public.reactions (
    message_id bigint not null references public.messages (id) on delete cascade,
    profile_id uuid not null references public.profiles (id) on delete cascade,
    emoji text not null check (length(emoji) between 1 and 16),
    created_at timestamptz not null default now(),
    primary key (message_id, profile_id, emoji)
);

alter table public.messages add column reaction_count integer not null default 0;

create function public.count_reaction() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    update public.messages
    set reaction_count = reaction_count + case tg_op when 'INSERT' then 1 else -1 end
    where id = case tg_op when 'INSERT' then new.message_id else old.message_id end;
    return null;
end
$$;

create trigger reactions_count
after insert or delete on public.reactions
for each row execute function public.count_reaction();

alter table public.reactions enable row level security;

create policy "Reactions are read by everyone who signed in"
on public.reactions for select to authenticated
using (true);

create policy "People react as themselves"
on public.reactions for insert to authenticated
with check ((select auth.uid()) = profile_id);
