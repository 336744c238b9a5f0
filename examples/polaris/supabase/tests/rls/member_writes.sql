-- run as: authenticated {"sub":"00000000-0000-4000-8000-000000000002","role":"authenticated"}
-- A member cannot write in the name of somebody else, nor change another profile.

do $$
declare
    other constant uuid := '00000000-0000-4000-8000-000000000001';
    changed bigint;
begin
    begin
        insert into public.messages (author_id, body) values (other, 'not me');
        raise exception using errcode = 'P0002', message = 'a member wrote in the name of somebody else';
    exception
        when insufficient_privilege then
            null;
    end;
    update public.profiles set bio = 'changed by somebody else' where id = other;
    get diagnostics changed = row_count;
    if changed > 0 then
        raise exception 'a member changed the profile of somebody else';
    end if;
end
$$;
