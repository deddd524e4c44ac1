//! Everything about an installed extension that an upgrade could get wrong, as sorted lines of text.

use anyhow::Result;
use tokio_postgres::Client;

/// One query a kind; each gives lines that name the object first. Numbers that differ from database to database (oids) are in none.
const PARTS: [&str; 11] = [
    "SELECT 'member ' || pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d JOIN pg_extension e
     ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid WHERE e.extname = 'hubspot_sync' AND d.deptype = 'e'",
    "SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = 'hubspot'::regnamespace AND p.prokind = 'f'",
    "SELECT format('column %s.%s %s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
       pg_get_expr(d.adbin, d.adrelid)) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind IN ('r', 'p', 'v')",
    "SELECT format('relation %s %s %s %s', c.relkind, c.relname, c.reloptions, c.relpersistence) FROM pg_class c WHERE c.relnamespace = 'hubspot'::regnamespace AND c.relkind <> 't'",
    "SELECT format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'hubspot'::regnamespace",
    "SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'hubspot'",
    "SELECT format('view %s: %s', viewname, definition) FROM pg_views WHERE schemaname = 'hubspot'",
    "SELECT format('label %s.%s', enumtypid::regtype, enumlabel) FROM pg_enum JOIN pg_type t ON t.oid = enumtypid WHERE t.typnamespace = 'hubspot'::regnamespace",
    "SELECT format('comment on %s: %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description) FROM pg_description d
     WHERE EXISTS (SELECT 1 FROM pg_depend m JOIN pg_extension e ON m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND e.extname = 'hubspot_sync'
       WHERE m.classid = d.classoid AND m.objid = d.objoid AND m.deptype = 'e')",
    "SELECT format('rights on %s: %s', what, (SELECT string_agg(format('%s %s %s', a.grantee, a.privilege_type, a.is_grantable), ',' ORDER BY a.grantee, a.privilege_type)
       FROM aclexplode(acl) a)) FROM (
       SELECT oid::regprocedure::text AS what, coalesce(proacl, acldefault('f', proowner)) AS acl FROM pg_proc WHERE pronamespace = 'hubspot'::regnamespace
       UNION ALL SELECT relname, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner)) FROM pg_class
         WHERE relnamespace = 'hubspot'::regnamespace AND relkind IN ('r', 'v', 'S')
       UNION ALL SELECT nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname = 'hubspot') x",
    "SELECT format('dumped %s %s', c.relname, x.condition) FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS x (id, condition)
     JOIN pg_class c ON c.oid = x.id WHERE e.extname = 'hubspot_sync'
     UNION ALL SELECT format('event trigger %s %s %s %s %s', evtname, evtevent, evtenabled, evttags, evtfoid::regproc) FROM pg_event_trigger",
];

/// The extension as it is in this database.
pub async fn take(sql: &Client) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for part in PARTS {
        let rows = sql.query(part, &[]).await?;
        assert!(!rows.is_empty(), "nothing is compared by {part}");
        lines.extend(rows.iter().map(|r| r.get::<_, String>(0)));
    }
    lines.sort();
    Ok(lines)
}

/// What only the first or only the second has.
pub fn difference(one: &[String], other: &[String]) -> Vec<String> {
    let only = |a: &[String], b: &[String], sign: &str| -> Vec<String> {
        a.iter()
            .filter(|line| !b.contains(line))
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    [only(one, other, "-"), only(other, one, "+")].concat()
}
