-- What came in, one row for each event of a payment provider, however often it was delivered.

create table public.ledger (
    id bigint generated always as identity primary key,
    provider text not null check (provider in ('paypal', 'paymongo')),
    event_id text not null,
    payment_id text not null,
    kind text not null,
    amount_cents bigint not null check (amount_cents >= 0),
    currency text not null,
    profile_id uuid references public.profiles (id) on delete set null,
    received_at timestamptz not null default now(),
    unique (provider, event_id)
);

create index ledger_payment on public.ledger (payment_id);

alter table public.ledger enable row level security;

create policy "People see their own payments"
on public.ledger for select to authenticated
using ((select auth.uid()) = profile_id);
