//! Statements as dumps hold them.

use super::*;

#[test]
fn a_statement_is_known_by_its_head() {
    let cases = [
        ("-- Name: x\n\nCREATE TABLE public.users (\n id int", "table", "\"public\".\"users\"", None),
        (
            "CREATE UNIQUE INDEX i ON ONLY auth.\"Users\" USING btree (a)",
            "index",
            "\"auth\".\"i\"",
            Some("\"auth\".\"Users\""),
        ),
        (
            "CREATE TRIGGER t AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW",
            "trigger",
            "\"t\"",
            Some("\"auth\".\"users\""),
        ),
        (
            "CREATE POLICY \"a b\" ON storage.objects USING (true)",
            "policy",
            "\"a b\"",
            Some("\"storage\".\"objects\""),
        ),
        (
            "CREATE OR REPLACE FUNCTION \"public\".\"f\"(a int) RETURNS int",
            "function",
            "\"public\".\"f\"",
            None,
        ),
        ("CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA extensions", "extension", "\"pgcrypto\"", None),
    ];
    for (sql, kind, name, on) in cases {
        let expected = What::Create { kind, name: name.into(), on: on.map(Into::into) };
        assert_eq!(what(sql), expected, "{sql}");
    }
    assert_eq!(
        what("ALTER TABLE ONLY public.a ADD CONSTRAINT a_pkey PRIMARY KEY (id)"),
        What::AddConstraint { table: "\"public\".\"a\"".into(), name: "\"a_pkey\"".into() }
    );
    assert_eq!(
        what("SELECT pg_catalog.set_config('search_path', '', false)"),
        What::Session { setting: "search_path".into() }
    );
    assert_eq!(
        what("ALTER TABLE auth.users OWNER TO supabase_auth_admin"),
        What::Owner {
            kind: "table".into(),
            name: "\"auth\".\"users\"".into(),
            role: "\"supabase_auth_admin\"".into()
        }
    );
    assert_eq!(
        what("SELECT pg_catalog.setval('public.\"S\"', 3, true)"),
        What::Setval { sequence: "\"public\".\"S\"".into() }
    );
    assert_eq!(
        what("ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA public GRANT ALL"),
        What::DefaultPrivileges { role: "\"supabase_admin\"".into() }
    );
}

#[test]
fn columns_are_counted_without_constraints() {
    assert_eq!(
        column_count(
            "CREATE TABLE a (x int DEFAULT f(1,2), \"check\" text, y numeric(3,1), CONSTRAINT c CHECK (x > 0), UNIQUE (x, y))"
        ),
        Some(3)
    );
    assert_eq!(column_count("CREATE TABLE p PARTITION OF a FOR VALUES FROM (1) TO (2)"), None);
    assert_eq!(column_count("CREATE TABLE e ()"), Some(0));
}

#[test]
fn what_a_statement_does_is_read_as_it_was_written_whatever_its_keyword() {
    let statements = [
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f()",
        "CREATE EXTENSION pgcrypto",
        "CREATE FOREIGN TABLE public.t (id int) SERVER s",
        "CREATE PROCEDURE public.f() LANGUAGE sql",
        "CREATE INDEX i ON public.t USING btree (id)",
        "CREATE MATERIALIZED VIEW public.m AS SELECT 1",
        "CREATE POLICY own ON public.t USING (true)",
        "CREATE PUBLICATION p FOR ALL TABLES",
        "CREATE RULE r AS ON INSERT TO public.t DO NOTHING",
        "CREATE SCHEMA s",
        "CREATE SEQUENCE public.s",
        "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p",
        "CREATE TABLE public.t (id int)",
        "CREATE TRIGGER t BEFORE UPDATE ON public.t EXECUTE FUNCTION public.f()",
        "CREATE DOMAIN public.d AS text",
        "CREATE VIEW public.v AS SELECT 1",
        "ALTER TABLE public.t REPLICA IDENTITY FULL",
        "COMMENT ON TABLE public.t IS 'x'",
        "GRANT SELECT ON TABLE public.t TO anon",
        "REVOKE SELECT ON TABLE public.t FROM anon",
        "REFRESH MATERIALIZED VIEW public.m",
    ];
    let mut met = std::collections::BTreeSet::new();
    for sql in statements {
        let found = what(sql);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<What>(&text).expect(sql), found, "{sql}");
        let (What::Create { kind: keyword, .. } | What::On { verb: keyword, .. }) = found else {
            panic!("{sql}: {found:?}");
        };
        met.insert(keyword);
    }
    assert!(met.iter().eq(&KEYWORDS), "{met:?}");
    assert!(serde_json::from_str::<What>(r#"{"Create":{"kind":"x","name":"n","on":null}}"#).is_err());
}
