-- Made-up people and what they did. `:name` places are numbers put in by the sandbox. Everything is a function of
-- the row number, so that two seeds of one size hold the same rows.

insert into auth.users (
    instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, last_sign_in_at,
    raw_app_meta_data, raw_user_meta_data, created_at, updated_at
)
select
    '00000000-0000-0000-0000-000000000000',
    ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
    'authenticated', 'authenticated',
    format('pilot%s@example.test', lpad(n::text, 5, '0')),
    '$2a$10$' || rpad(md5('password' || n), 53, 'x'),
    timestamptz '2026-01-05 12:00Z' + n * interval '7 minutes',
    case when n % 4 = 0 then null else timestamptz '2026-02-20 08:00Z' + n * interval '3 minutes' end,
    '{"provider": "email", "providers": ["email"]}',
    jsonb_build_object(
        'handle', 'pilot' || lpad(n::text, 5, '0'),
        'name', (array['Ada', 'Bến', 'Chloé', 'Đại', 'Émile', 'Fatma', 'Günther', '花子'])[1 + n % 8] || ' ' || n
    ),
    timestamptz '2026-01-05 12:00Z' + n * interval '7 minutes',
    timestamptz '2026-01-05 12:00Z' + n * interval '7 minutes'
from generate_series(1, :users) n;

insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at, id)
select id::text, id, jsonb_build_object('sub', id, 'email', email), 'email', created_at, created_at,
    md5('identity' || id)::uuid
from auth.users;

insert into auth.sessions (id, user_id, created_at, updated_at, aal, ip, user_agent)
select md5('session' || id)::uuid, id, last_sign_in_at, last_sign_in_at, 'aal1', '192.0.2.7', 'polaris/1.0'
from auth.users where last_sign_in_at is not null;

insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, session_id)
select '00000000-0000-0000-0000-000000000000', left(md5('token' || s.id), 12), s.user_id, false,
    s.created_at, s.created_at, s.id
from auth.sessions s order by s.user_id;

update public.profiles p set
    bio = case (substr(p.handle, 6)::int % 5)
        when 0 then null
        when 1 then ''
        when 2 then E'Line one\nline two\twith a tab and a back\\slash'
        when 3 then '\. is not the end; neither is \N'
        else 'Tiếng Việt có dấu, "quotes", commas, and a 🚀'
    end,
    rank = (array['cadet', 'pilot', 'navigator', 'captain'])[1 + substr(p.handle, 6)::int % 4]::public.rank,
    settings = jsonb_build_object('theme', case when substr(p.handle, 6)::int % 2 = 0 then 'dark' else 'light' end);

insert into public.drills (slug, title, body, difficulty, labels, published)
select
    'drill-' || n,
    (array['Lost', 'Slow', 'Corrupt', 'Leaked'])[1 + n % 4] || ' ' || (array['database', 'bucket', 'key'])[1 + n % 3] || ' ' || n,
    'Find the newest backup, restore it beside the damaged one, and prove it. Then ' || repeat('practise again, ', n % 7) || 'and write down what you learned.',
    1 + n % 5,
    array['db', (array['backup', 'restore', 'rotate'])[1 + n % 3]],
    n % 10 <> 0
from generate_series(1, :drills) n;

insert into public.attempts (profile_id, drill_id, score, took, answers, started_at)
select
    ('00000000-0000-4000-8000-' || lpad((1 + n % :users)::text, 12, '0'))::uuid,
    1 + n % :drills,
    (n * 37 % 10001) / 100.0,
    (n % 3600) * interval '1 second',
    jsonb_build_array(n % 4, n % 3, null, jsonb_build_object('note', 'step ' || n)),
    timestamptz '2026-01-20 09:00Z' + n * interval '2 minutes'
from generate_series(1, :attempts) n;

insert into public.messages (author_id, room, body, reply_to, metadata, created_at)
select
    ('00000000-0000-4000-8000-' || lpad((1 + n % :users)::text, 12, '0'))::uuid,
    (array['bridge', 'engine', 'galley', 'phòng máy'])[1 + n % 4],
    case when n % 50 = 0 then E'It said:\n\t"C:\\temp\\' || n || E'"\nand stopped.'
         else 'Message ' || n || ': ' || md5(n::text) || ' ' || md5('a' || n) || ' the pump is steady, '
              || 'the log is written, and the next watch knows. ' || md5('b' || n) || ' ' || md5('c' || n) end,
    case when n % 11 = 0 then n - 1 end,
    case when n % 3 = 0 then jsonb_build_object('client', 'web', 'n', n) else '{}' end,
    timestamptz '2026-02-01 00:00Z' + n * interval '5 seconds'
from generate_series(1, :messages) n;

insert into public.tags (name, "Colour")
select 'tag ' || n, '#' || left(md5(n::text), 6) from generate_series(1, 12) n;

insert into public.message_tags (message_id, tag_id)
select n, 1 + n % 12 from generate_series(1, :messages) n where n % 4 = 0;

insert into public.entitlements (id, profile_id, product, source, external_id, valid_from, valid_to)
select
    md5('entitlement' || n)::uuid,
    ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
    case when n % 3 = 0 then 'team' else 'pro' end,
    (array['paypal', 'paymongo', 'gift'])[1 + n % 3],
    case when n % 3 = 2 then null else 'ext-' || n end,
    date '2026-01-05',
    case when n % 6 = 0 then date '2026-02-05' end
from generate_series(1, :users) n where n % 2 = 1 or n % 3 = 0;

insert into public.ledger (provider, event_id, payment_id, kind, amount_cents, currency, profile_id, received_at)
select source, 'evt-' || external_id, external_id, case source when 'paypal' then 'PAYMENT.CAPTURE.COMPLETED' else 'payment.paid' end,
    900, case source when 'paypal' then 'USD' else 'PHP' end, profile_id, timestamptz '2026-01-05 12:00Z'
from public.entitlements where source <> 'gift' and external_id is not null order by external_id;

refresh materialized view private.room_stats;
