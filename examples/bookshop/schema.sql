-- A bookshop. Orders hold lines, lines name books; an order's total is the sum of its lines.
create table public.books (
    isbn text primary key,
    title text not null,
    cents integer not null check (cents >= 0)
);
create table public.orders (
    id bigint primary key,
    customer text not null,
    total_cents integer not null,
    placed_at timestamptz not null
);
create table public.order_lines (
    order_id bigint not null references public.orders,
    isbn text not null references public.books,
    copies integer not null check (copies > 0),
    primary key (order_id, isbn)
);
insert into public.books values
    ('978-0-01', 'The Salt Road', 1450), ('978-0-02', 'Letters to Nobody', 900), ('978-0-03', 'A Field of Clocks', 2100);
insert into public.orders values
    (1, 'ines', 3800, '2026-03-01 10:00Z'), (2, 'jun', 2100, '2026-03-02 18:30Z'), (3, 'ines', 900, '2026-03-04 09:15Z');
insert into public.order_lines values (1, '978-0-01', 2), (1, '978-0-02', 1), (2, '978-0-03', 1), (3, '978-0-02', 1);
alter table public.books enable row level security;
alter table public.orders enable row level security;
alter table public.order_lines enable row level security;
