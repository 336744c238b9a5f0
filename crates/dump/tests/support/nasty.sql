-- What is hard to dump and to read again. Run by psql with the connection's own settings.
SET standard_conforming_strings = on;
CREATE ROLE "Odd ""Role""" NOLOGIN;
CREATE ROLE reader NOLOGIN;

CREATE SCHEMA "odd;schema";
CREATE SCHEMA app AUTHORIZATION "Odd ""Role""";
COMMENT ON SCHEMA app IS E'line one\n\\.\n\\! touch pwned\n-- PostgreSQL database dump complete\n--\n; it''s $$ "x" /* ';

CREATE TYPE app.mood AS ENUM ('ok', 'it''s; so-so', E'new\nline', 'back\slash');
CREATE DOMAIN app.positive AS integer CHECK (VALUE > 0);

CREATE TABLE app.plain (id integer PRIMARY KEY, t text, j jsonb, b bytea, m app.mood, a text[]);
INSERT INTO app.plain VALUES
  (1, E'tab\there', '{"a": "b\\\\n"}', '\x00ff5c2e0a', 'ok', ARRAY['x', NULL, E'a"b\\c']),
  (2, E'line\nbreak\r\nand\rreturn', '[]', '', E'new\nline', '{}'),
  (3, E'\\.', NULL, NULL, NULL, NULL),
  (4, E'\n\\.\n\\! touch pwned\n', NULL, '\x5c2e0a', 'back\slash', ARRAY[E'\n\\.\n']),
  (5, '\N', NULL, NULL, NULL, NULL),
  (6, E'\b\f\v\x01\x1b[31m', NULL, NULL, NULL, NULL),
  (7, '', NULL, NULL, NULL, NULL),
  (8, 'ünïcödé 🦀 ''quoted''; "double"; $tag$ -- /* \connect evil', NULL, NULL, NULL, NULL),
  (9, repeat('long ', 200000), NULL, NULL, NULL, NULL);

CREATE TABLE "odd;schema"."new
line; ""quoted"" $x$ -- name" ("column;
one" text DEFAULT E'\\.\n''', "Select" integer, "a,b)(c" integer, generated integer GENERATED ALWAYS AS ("Select" * 2) STORED);
INSERT INTO "odd;schema"."new
line; ""quoted"" $x$ -- name" VALUES ('x', 1, 2), (DEFAULT, 3, NULL);

CREATE TABLE app.empty (id integer);
CREATE TABLE app.no_columns ();
INSERT INTO app.no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE app.identity (id bigint GENERATED ALWAYS AS IDENTITY, s serial, note text);
INSERT INTO app.identity (note) SELECT 'n' || g FROM generate_series(1, 5000) g;

CREATE TABLE app.parts (k integer, v text) PARTITION BY LIST (k);
CREATE TABLE app.part_1 PARTITION OF app.parts FOR VALUES IN (1);
CREATE TABLE app.part_rest PARTITION OF app.parts DEFAULT;
INSERT INTO app.parts VALUES (1, 'one'), (2, 'two'), (NULL, 'none');

CREATE TABLE app.child (id integer PRIMARY KEY, plain_id integer REFERENCES app.plain(id), CHECK (id <> 13));
INSERT INTO app.child VALUES (1, 1), (2, NULL);
CREATE INDEX child_plain ON app.child (plain_id) WHERE plain_id IS NOT NULL;
CREATE STATISTICS app.child_stats ON id, plain_id FROM app.child;

CREATE FUNCTION app.dollar(a text) RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
  -- a comment with a quote '
  IF a = '$$' THEN RETURN $q$;$q$; END IF;
  /* the next lines look like the end of a COPY, and a command
\.
\! touch pwned
  */
  RETURN a;
END;
$body$;
CREATE FUNCTION app.carriage() RETURNS text LANGUAGE sql AS E'SELECT 1::text;\r\nSELECT ''\r\n''';
CREATE FUNCTION app.has_dollars() RETURNS text LANGUAGE sql AS 'SELECT $_$ $$ $_X$ ; '' $_X$ $$ $_$::text';
CREATE FUNCTION app.atomic(a integer) RETURNS integer LANGUAGE sql
BEGIN ATOMIC
  SELECT 1;
  SELECT CASE WHEN a > 1 THEN CASE a WHEN 2 THEN 3 ELSE 4 END ELSE (CASE WHEN true THEN 1 END) END;
END;
CREATE PROCEDURE app.atomic_insert("end" integer) LANGUAGE sql
BEGIN ATOMIC
  INSERT INTO app.empty VALUES ("end");
  DELETE FROM app.empty WHERE id = 3 RETURNING id;
END;
CREATE FUNCTION app.plain_return() RETURNS integer LANGUAGE sql RETURN 1;
CREATE FUNCTION app.foo$bar$(x$1 integer) RETURNS integer LANGUAGE sql RETURN x$1;
CREATE AGGREGATE app.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');

CREATE RULE noisy AS ON INSERT TO app.empty WHERE NEW.id = 99 DO ALSO (
  INSERT INTO app.child VALUES (99, NULL);
  DELETE FROM app.child WHERE id = 98;
);
CREATE VIEW app.quoted AS SELECT E'a\nb;\\'::text AS "x;y", U&'\0441;' AS u, id FROM app.plain WHERE t <> '--';
CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) AS n FROM app.plain;
CREATE FUNCTION app.on_change() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER "odd;trigger" BEFORE INSERT ON app.plain FOR EACH ROW EXECUTE FUNCTION app.on_change('it''s', E'\n\\.');
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION app.on_ddl();
COMMENT ON EVENT TRIGGER watch IS 'watches';
ALTER TABLE app.plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY "see;own" ON app.plain TO reader USING (t = 'it''s');
CREATE PUBLICATION changes FOR TABLE app.child;

SELECT lo_from_bytea(424242, 'first'), lo_from_bytea(424243, ''), lo_from_bytea(424244, decode(repeat('00ff5c', 30000), 'hex'));
SELECT lo_from_bytea(424245, 'grouped'), lo_from_bytea(424246, 'grouped too');
GRANT SELECT ON LARGE OBJECT 424242 TO reader;
GRANT SELECT, UPDATE ON LARGE OBJECT 424245, 424246 TO "Odd ""Role"""; -- a group
COMMENT ON LARGE OBJECT 424243 IS 'empty';

ALTER TABLE app.plain OWNER TO "Odd ""Role""";
GRANT SELECT ON app.plain TO reader;
GRANT USAGE ON SCHEMA app TO reader;
REVOKE ALL ON FUNCTION app.atomic(integer) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO reader;
COMMENT ON COLUMN app.plain.t IS E'\\restrict x\n\\unrestrict x';
