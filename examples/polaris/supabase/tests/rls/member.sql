-- run as: authenticated {"sub":"00000000-0000-4000-8000-000000000001","role":"authenticated"}
-- A member reads the chat, and of entitlements and attempts only their own.

do $$
declare
    me constant uuid := auth.uid();
    n bigint;
begin
    if me is distinct from '00000000-0000-4000-8000-000000000001'::uuid then
        raise exception 'the claims are not set: auth.uid() is %', me;
    end if;
    select count(*) into n from public.messages;
    if n = 0 then
        raise exception 'a member cannot read the chat';
    end if;
    select count(*) into n from public.entitlements;
    if n = 0 then
        raise exception 'a member cannot see what they paid for';
    end if;
    select count(*) into n from public.entitlements where profile_id <> me;
    if n > 0 then
        raise exception 'a member sees % entitlements of others', n;
    end if;
    select count(*) into n from public.attempts where profile_id <> me;
    if n > 0 then
        raise exception 'a member sees % attempts of others', n;
    end if;
end
$$;
