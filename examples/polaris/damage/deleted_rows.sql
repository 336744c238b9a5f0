-- "Clean up test accounts": two of them were none, and a third one's profile was overwritten on the way.

-- Their messages, attempts and entitlements go with them.
delete from public.profiles where handle in ('pilot00003', 'pilot00007');

update public.profiles set display_name = 'deleted user', bio = null where handle = 'pilot00009';
