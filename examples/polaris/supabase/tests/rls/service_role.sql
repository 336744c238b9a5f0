-- run as: service_role
-- The server sees everything, row-level security or not.

do $$
declare
    shown bigint;
begin
    select count(*) into shown from public.entitlements;
    if shown = 0 then
        raise exception 'the server sees no entitlement';
    end if;
    select count(*) into shown from public.drills where not published;
    if shown = 0 then
        raise exception 'the server sees no unpublished drill';
    end if;
end
$$;
