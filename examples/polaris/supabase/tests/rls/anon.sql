-- run as: anon
-- A visitor sees published drills and tags, and nothing that belongs to people.

do $$
declare
    n bigint;
begin
    select count(*) into n from public.drills;
    if n = 0 then
        raise exception 'a visitor sees no published drill';
    end if;
    select count(*) into n from public.drills where not published;
    if n > 0 then
        raise exception 'a visitor sees % unpublished drills', n;
    end if;
    select count(*) into n from public.profiles;
    if n > 0 then
        raise exception 'a visitor sees % profiles', n;
    end if;
    select count(*) into n from public.messages;
    if n > 0 then
        raise exception 'a visitor sees % messages', n;
    end if;
    select count(*) into n from public.entitlements;
    if n > 0 then
        raise exception 'a visitor sees % entitlements', n;
    end if;
end
$$;
