-- The data set of the benchmarks: a product's database, skewed as products are, the same on every machine: nothing
-- here is random. psql variables say how many rows: users, messages, events, attachments, sessions, invoices; and which
-- percent of the messages, the latest ones, the full-text index holds: full_text.
-- Runs as the owner of the database.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '128MB';

CREATE SCHEMA bench;
CREATE SCHEMA auth;

-- A number from two others, never negative.
CREATE FUNCTION bench.h(n bigint, seed bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT hashint8extended(n, seed) & 9223372036854775807';
-- The key of a row of some kind.
CREATE FUNCTION bench.key(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT md5(kind || n)::uuid';
-- Words that can be pronounced; some thousand different ones, so that they pack about as well as prose.
CREATE FUNCTION bench.words(seed bigint, many integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(
        substr('lotinaverasumipokedaruneligotabewicoharomuzepifasodyqulenobitexa', 1 + 2 * (k & 31)::int, 2)
        || substr('nsrtlmdkbrstndlkmprtstndrslnkgptmbndrtlsnmstrknglpmtrdsbctfthpyx', 1 + 2 * (k >> 5 & 31)::int, 2)
        || CASE (k >> 10 & 7) WHEN 0 THEN 'ing' WHEN 1 THEN 'er' WHEN 2 THEN 's' WHEN 3 THEN 'ed' ELSE 'a' END, ' ')
    FROM generate_series(1, many) i, LATERAL (SELECT hashint8extended(i, seed) AS k) x
$$;
CREATE FUNCTION bench.bytes(seed bigint, many integer) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT decode(string_agg(md5(seed || '':'' || i), ''''), ''hex'') FROM generate_series(1, many) i';

CREATE TYPE public.plan AS ENUM ('free', 'team', 'business');
CREATE DOMAIN public.slug AS text CHECK (VALUE ~ '^[a-z0-9-]+$');

CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('request.jwt.sub', true), '')::uuid $$;
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TABLE auth.users (
    id uuid NOT NULL,
    email text NOT NULL,
    encrypted_password text,
    raw_user_meta_data jsonb NOT NULL DEFAULT '{}',
    created_at timestamp with time zone NOT NULL,
    last_sign_in_at timestamp with time zone,
    confirmed boolean GENERATED ALWAYS AS (last_sign_in_at IS NOT NULL) STORED
);
INSERT INTO auth.users
SELECT bench.key('user', n), 'person' || n || '@example.test', '$2a$10$' || left(encode(sha256(n::text::bytea), 'base64'), 43),
    jsonb_build_object('name', bench.words(n, 2), 'locale', (ARRAY['en', 'de', 'fil', 'pt-BR'])[1 + n % 4], 'terms', n % 7 > 0,
        'avatar', 'https://cdn.example.test/' || md5(n::text)),
    '2023-01-01+00'::timestamptz + n * interval '97 seconds',
    CASE WHEN n % 9 > 0 THEN '2025-06-01+00'::timestamptz + bench.h(n, 1) % 9000000 * interval '1 second' END
FROM generate_series(1::bigint, :users) n;

CREATE TABLE auth.sessions (
    id uuid NOT NULL, user_id uuid NOT NULL, created_at timestamp with time zone NOT NULL, user_agent text, ip inet
);
INSERT INTO auth.sessions
SELECT bench.key('session', n), bench.key('user', 1 + bench.h(n, 2) % :users), '2025-01-01+00'::timestamptz + n * interval '31 seconds',
    'Mozilla/5.0 (' || (ARRAY['Windows NT 10.0', 'Macintosh', 'X11; Linux x86_64', 'Android 14'])[1 + n % 4] || ') rv:' || 90 + n % 40,
    ('10.' || n % 250 || '.' || n / 250 % 250 || '.' || n / 62500 % 250)::inet
FROM generate_series(1::bigint, :sessions) n;

CREATE TABLE public.organizations (
    id uuid NOT NULL, name text NOT NULL, slug public.slug NOT NULL, plan public.plan NOT NULL DEFAULT 'free', settings jsonb
);
INSERT INTO public.organizations
SELECT bench.key('org', n), bench.words(n + 7, 2), 'org-' || n, (ARRAY['free', 'team', 'business'])[1 + n % 3]::public.plan,
    jsonb_build_object('seats', n % 40, 'domains', ARRAY['a' || n || '.test'])
FROM generate_series(1::bigint, 1 + :users / 50) n;

CREATE TABLE public.profiles (
    id uuid NOT NULL, org_id uuid NOT NULL, username text NOT NULL, first_name text, last_name text,
    full_name text GENERATED ALWAYS AS (first_name || ' ' || last_name) STORED,
    bio text, avatar bytea, preferences jsonb NOT NULL DEFAULT '{}', updated_at timestamp with time zone
);
INSERT INTO public.profiles (id, org_id, username, first_name, last_name, bio, avatar, preferences, updated_at)
SELECT bench.key('user', n), bench.key('org', 1 + bench.h(n, 3) % (1 + :users / 50)), 'user_' || n, initcap(bench.words(n, 1)),
    initcap(bench.words(n + 1, 1)), CASE WHEN n % 3 > 0 THEN bench.words(n + 2, 12) END,
    CASE WHEN n % 5 = 0 THEN bench.bytes(n, 6) END,
    jsonb_build_object('theme', CASE WHEN n % 2 = 0 THEN 'dark' ELSE 'light' END, 'digest', n % 3, 'tags', ARRAY[bench.words(n, 1)]),
    '2025-03-01+00'::timestamptz + n * interval '11 seconds'
FROM generate_series(1::bigint, :users) n;

CREATE TABLE public.channels (
    id uuid NOT NULL, org_id uuid NOT NULL, created_by uuid, name text NOT NULL, topic text, archived boolean NOT NULL DEFAULT false
);
INSERT INTO public.channels
SELECT bench.key('channel', n), bench.key('org', 1 + n % (1 + :users / 50)), bench.key('user', 1 + bench.h(n, 4) % :users),
    'channel-' || n, bench.words(n, 5), n % 11 = 0
FROM generate_series(1::bigint, 10 + :users / 10) n;

CREATE TABLE public.messages (
    id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    channel_id uuid NOT NULL, author_id uuid NOT NULL, reply_to bigint, body text NOT NULL, metadata jsonb,
    created_at timestamp with time zone NOT NULL, updated_at timestamp with time zone,
    search tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED
);
INSERT INTO public.messages (id, channel_id, author_id, reply_to, body, metadata, created_at, updated_at)
SELECT n, bench.key('channel', 1 + bench.h(n, 5) % (10 + :users / 10)), bench.key('user', 1 + bench.h(n, 6) % :users),
    CASE WHEN n % 6 = 0 THEN 1 + bench.h(n, 7) % n END, bench.words(n, 8 + (bench.h(n, 8) % 24)::int),
    CASE WHEN n % 3 = 0 THEN jsonb_build_object('client', (ARRAY['web', 'ios', 'android'])[1 + n % 3], 'reactions', n % 5,
        'mentions', jsonb_build_array(bench.key('user', 1 + bench.h(n, 9) % :users))) END,
    '2024-01-01+00'::timestamptz + n * interval '17 seconds', CASE WHEN n % 13 = 0 THEN '2025-05-01+00'::timestamptz END
FROM generate_series(1::bigint, :messages) n;
SELECT setval(pg_get_serial_sequence('public.messages', 'id'), :messages) \g /dev/null

CREATE TABLE public.attachments (
    id uuid NOT NULL, message_id bigint NOT NULL, name text NOT NULL, content bytea NOT NULL,
    size integer GENERATED ALWAYS AS (length(content)) STORED
);
INSERT INTO public.attachments (id, message_id, name, content)
SELECT bench.key('attachment', n), 1 + bench.h(n, 10) % :messages, bench.words(n, 1) || '.bin', bench.bytes(n, 20 + (n % 30)::int)
FROM generate_series(1::bigint, :attachments) n;

CREATE TABLE public.events (
    id bigint NOT NULL, user_id uuid NOT NULL, kind text NOT NULL, payload jsonb NOT NULL, created_at timestamp with time zone NOT NULL
) PARTITION BY RANGE (created_at);
SELECT format('CREATE TABLE public.events_%s PARTITION OF public.events FOR VALUES FROM (%L) TO (%L)',
        to_char(month, 'YYYYMM'), month, month + interval '1 month')
FROM generate_series('2025-01-01'::timestamp, '2025-12-01', '1 month') month \gexec
INSERT INTO public.events
SELECT n, bench.key('user', 1 + bench.h(n, 11) % :users), (ARRAY['view', 'click', 'open', 'buy', 'leave'])[1 + n % 5],
    jsonb_build_object('page', '/' || bench.words(n, 2), 'ms', bench.h(n, 12) % 5000, 'ab', n % 2 = 0),
    '2025-01-01+00'::timestamptz + n * (interval '364 days' / :events)
FROM generate_series(1::bigint, :events) n;

CREATE SEQUENCE public.invoice_number START 1000 INCREMENT 5;
CREATE TABLE public.invoices (
    id uuid NOT NULL, number integer NOT NULL DEFAULT nextval('public.invoice_number'), org_id uuid NOT NULL, issued date NOT NULL,
    currency character(3) NOT NULL, total numeric(12,2) NOT NULL, tax numeric(12,2) GENERATED ALWAYS AS (round(total * 0.12, 2)) STORED
);
INSERT INTO public.invoices (id, number, org_id, issued, currency, total)
SELECT bench.key('invoice', n), nextval('public.invoice_number'), bench.key('org', 1 + n % (1 + :users / 50)), '2024-01-01'::date + (n % 700)::int,
    (ARRAY['USD', 'EUR', 'PHP'])[1 + n % 3], (bench.h(n, 13) % 1000000) / 100.0
FROM generate_series(1::bigint, :invoices) n;
CREATE TABLE public.invoice_items (
    invoice_id uuid NOT NULL, line smallint NOT NULL, description text NOT NULL, quantity integer NOT NULL, price numeric(12,4) NOT NULL
);
INSERT INTO public.invoice_items
SELECT bench.key('invoice', n), line, bench.words(n * 3 + line, 4), 1 + (bench.h(n, line) % 9)::int, (bench.h(n, 14 + line) % 100000) / 1000.0
FROM generate_series(1::bigint, :invoices) n, generate_series(1, 2) line;

-- What every product has many of: small tables.
SELECT format('CREATE TABLE public.lookup_%1$s (id integer NOT NULL, code text NOT NULL, label text, org_id uuid)', lpad(n::text, 2, '0'))
FROM generate_series(1, 20) n \gexec
SELECT format('INSERT INTO public.lookup_%1$s SELECT n, ''c'' || n, bench.words(n, 3), bench.key(''org'', 1 + n %% (1 + %2$s / 50)) FROM generate_series(1, 60) n',
        lpad(n::text, 2, '0'), :users)
FROM generate_series(1, 20) n \gexec
-- The last table in every dump.
CREATE TABLE public.zones (id integer NOT NULL, name text NOT NULL, shift interval);
INSERT INTO public.zones SELECT n, 'Zone/' || bench.words(n, 1) || n, n * interval '3 minutes' FROM generate_series(1, 500) n;

DROP SCHEMA bench CASCADE;

CREATE VIEW public.open_channels WITH (security_invoker = true) AS SELECT id, org_id, name FROM public.channels WHERE NOT archived;
CREATE MATERIALIZED VIEW public.activity AS
    SELECT author_id, count(*) AS messages, max(created_at) AS latest FROM public.messages GROUP BY author_id;
CREATE UNIQUE INDEX activity_author ON public.activity (author_id);

ALTER TABLE auth.users ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX users_email ON auth.users (lower(email));
ALTER TABLE auth.sessions ADD CONSTRAINT sessions_pkey PRIMARY KEY (id),
    ADD CONSTRAINT sessions_user_fkey FOREIGN KEY (user_id) REFERENCES auth.users (id) ON DELETE CASCADE;
CREATE INDEX sessions_user ON auth.sessions (user_id, created_at DESC);
ALTER TABLE public.organizations ADD CONSTRAINT organizations_pkey PRIMARY KEY (id),
    ADD CONSTRAINT organizations_slug_key UNIQUE (slug);
ALTER TABLE public.profiles ADD CONSTRAINT profiles_pkey PRIMARY KEY (id),
    ADD CONSTRAINT profiles_username_key UNIQUE (username),
    ADD CONSTRAINT profiles_id_fkey FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE,
    ADD CONSTRAINT profiles_org_fkey FOREIGN KEY (org_id) REFERENCES public.organizations (id),
    ADD CONSTRAINT profiles_username_check CHECK (length(username) >= 3);
ALTER TABLE public.channels ADD CONSTRAINT channels_pkey PRIMARY KEY (id),
    ADD CONSTRAINT channels_name_key UNIQUE (org_id, name) DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT channels_org_fkey FOREIGN KEY (org_id) REFERENCES public.organizations (id),
    ADD CONSTRAINT channels_created_by_fkey FOREIGN KEY (created_by) REFERENCES public.profiles (id) ON DELETE SET NULL;
ALTER TABLE public.messages ADD CONSTRAINT messages_pkey PRIMARY KEY (id),
    ADD CONSTRAINT messages_channel_fkey FOREIGN KEY (channel_id) REFERENCES public.channels (id) ON DELETE CASCADE,
    ADD CONSTRAINT messages_author_fkey FOREIGN KEY (author_id) REFERENCES public.profiles (id),
    ADD CONSTRAINT messages_reply_fkey FOREIGN KEY (reply_to) REFERENCES public.messages (id) DEFERRABLE;
CREATE INDEX messages_channel ON public.messages (channel_id, created_at);
CREATE INDEX messages_author ON public.messages (author_id) INCLUDE (created_at);
CREATE INDEX messages_replies ON public.messages (reply_to) WHERE reply_to IS NOT NULL;
SELECT 'CREATE INDEX messages_search ON public.messages USING gin (search)'
    || CASE WHEN :full_text < 100 THEN format(' WHERE id > %s', :messages * (100 - :full_text) / 100) ELSE '' END \gexec
CREATE INDEX messages_metadata ON public.messages USING gin (metadata jsonb_path_ops);
ALTER TABLE public.attachments ADD CONSTRAINT attachments_pkey PRIMARY KEY (id),
    ADD CONSTRAINT attachments_message_fkey FOREIGN KEY (message_id) REFERENCES public.messages (id) ON DELETE CASCADE;
CREATE INDEX attachments_message ON public.attachments (message_id);
ALTER TABLE public.events ADD CONSTRAINT events_pkey PRIMARY KEY (id, created_at),
    ADD CONSTRAINT events_user_fkey FOREIGN KEY (user_id) REFERENCES public.profiles (id);
CREATE INDEX events_user ON public.events (user_id, created_at);
ALTER TABLE public.invoices ADD CONSTRAINT invoices_pkey PRIMARY KEY (id),
    ADD CONSTRAINT invoices_number_key UNIQUE NULLS NOT DISTINCT (number) INCLUDE (org_id),
    ADD CONSTRAINT invoices_org_fkey FOREIGN KEY (org_id) REFERENCES public.organizations (id);
ALTER TABLE public.invoice_items ADD CONSTRAINT invoice_items_pkey PRIMARY KEY (invoice_id, line),
    ADD CONSTRAINT invoice_items_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES public.invoices (id) ON DELETE CASCADE,
    ADD CONSTRAINT invoice_items_quantity_check CHECK (quantity > 0);
ALTER SEQUENCE public.invoice_number OWNED BY public.invoices.number;
SELECT format('ALTER TABLE public.lookup_%1$s ADD CONSTRAINT lookup_%1$s_pkey PRIMARY KEY (id), ADD CONSTRAINT lookup_%1$s_code_key UNIQUE (code), '
        'ADD CONSTRAINT lookup_%1$s_org_fkey FOREIGN KEY (org_id) REFERENCES public.organizations (id)', lpad(n::text, 2, '0'))
FROM generate_series(1, 20) n \gexec
ALTER TABLE public.zones ADD CONSTRAINT zones_pkey PRIMARY KEY (id);
CREATE STATISTICS public.messages_stats (ndistinct) ON channel_id, author_id FROM public.messages;

CREATE TRIGGER messages_touch BEFORE UPDATE ON public.messages FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE TRIGGER profiles_touch BEFORE UPDATE ON public.profiles FOR EACH ROW EXECUTE FUNCTION public.touch();

ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.channels ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY;
CREATE POLICY profiles_read ON public.profiles FOR SELECT TO authenticated USING (true);
CREATE POLICY profiles_write ON public.profiles FOR UPDATE TO authenticated USING (id = auth.uid()) WITH CHECK (id = auth.uid());
CREATE POLICY channels_read ON public.channels FOR SELECT TO authenticated
    USING (org_id IN (SELECT p.org_id FROM public.profiles p WHERE p.id = auth.uid()));
CREATE POLICY messages_read ON public.messages FOR SELECT TO authenticated
    USING (EXISTS (SELECT FROM public.channels c WHERE c.id = channel_id));
CREATE POLICY messages_write ON public.messages FOR INSERT TO authenticated WITH CHECK (author_id = auth.uid());
CREATE POLICY attachments_read ON public.attachments FOR SELECT TO authenticated
    USING (EXISTS (SELECT FROM public.messages m WHERE m.id = message_id));
CREATE POLICY invoices_none ON public.invoices AS RESTRICTIVE FOR ALL TO anon USING (false);
GRANT USAGE ON SCHEMA auth TO authenticated, service_role;
GRANT SELECT, INSERT, UPDATE ON public.profiles, public.channels, public.messages, public.attachments TO authenticated;
GRANT SELECT (id, name) ON public.organizations TO anon;
GRANT ALL ON ALL TABLES IN SCHEMA public TO service_role;
COMMENT ON TABLE public.messages IS 'Where most rows are.';
COMMENT ON COLUMN public.messages.search IS 'Made by the server; not in a dump.';
