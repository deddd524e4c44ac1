//! The properties an account comes with.

use std::collections::BTreeMap;

use super::schema::{ObjectType, PropertyDef};

fn text(name: &str) -> PropertyDef {
    PropertyDef {
        hubspot_defined: true,
        ..PropertyDef::new(name, "string")
    }
}

fn of(name: &str, kind: &str) -> PropertyDef {
    PropertyDef {
        hubspot_defined: true,
        ..PropertyDef::new(name, kind)
    }
}

fn object_type(
    type_id: &str,
    plural: &str,
    singular: &str,
    modified: &'static str,
    shown: &[&'static str],
) -> ObjectType {
    let created = if type_id.starts_with("2-") {
        "hs_createdate"
    } else {
        "createdate"
    };
    let mut made = ObjectType {
        type_id: type_id.to_owned(),
        plural: plural.to_owned(),
        singular: singular.to_owned(),
        created_property: created,
        modified_property: modified,
        default_properties: shown.to_vec(),
        properties: BTreeMap::new(),
        groups: BTreeMap::new(),
    };
    for definition in [
        of(created, "datetime").read_only(),
        of(modified, "datetime").read_only(),
        of("hs_object_id", "number").read_only(),
        text("hs_merged_object_ids").read_only(),
    ] {
        let group = format!("{singular}information");
        made.add(PropertyDef { group, ..definition });
    }
    made
}

fn fill(made: &mut ObjectType, definitions: Vec<PropertyDef>) {
    let group = format!("{}information", made.singular);
    for definition in definitions {
        made.add(PropertyDef {
            group: group.clone(),
            ..definition
        });
    }
}

pub(crate) fn companies(warp: bool) -> ObjectType {
    let shown = ["name", "domain", "createdate", "hs_lastmodifieddate", "hs_object_id"];
    let mut made = object_type("0-2", "companies", "company", "hs_lastmodifieddate", &shown);
    let mut definitions: Vec<PropertyDef> = ["name", "domain", "phone", "address", "address2", "city", "state", "zip"]
        .into_iter()
        .chain([
            "country",
            "website",
            "description",
            "hubspot_owner_id",
            "hs_additional_domains",
        ])
        .map(text)
        .collect();
    definitions.push(of("numberofemployees", "number"));
    definitions.push(of("annualrevenue", "number"));
    definitions.push(of("lifecyclestage", "enumeration").options(&["subscriber", "lead", "opportunity", "customer"]));
    definitions.push(PropertyDef {
        calculated: true,
        ..of("num_associated_contacts", "number")
    });
    if warp {
        definitions.extend(warp_properties());
    }
    fill(&mut made, definitions);
    made
}

fn warp_properties() -> Vec<PropertyDef> {
    vec![
        PropertyDef::new("warp_ban", "string").unique(),
        PropertyDef::new("warp_current_balance", "number"),
        PropertyDef::new("warp_prepaid_balance", "number"),
        PropertyDef::new("warp_status", "enumeration").options(&["ACTIVE", "SUSPENDED", "TRIAL", "CLOSED"]),
        PropertyDef::new("warp_tier", "enumeration").options(&["STANDARD", "PREMIUM", "ENTERPRISE"]),
        PropertyDef::new("warp_credit_limit", "number"),
        PropertyDef::new("warp_payment_terms", "string"),
        PropertyDef::new("warp_legal_name", "string"),
    ]
}

pub(crate) fn contacts() -> ObjectType {
    let shown = [
        "firstname",
        "lastname",
        "email",
        "createdate",
        "lastmodifieddate",
        "hs_object_id",
    ];
    let mut made = object_type("0-1", "contacts", "contact", "lastmodifieddate", &shown);
    let mut definitions: Vec<PropertyDef> = [
        "firstname",
        "lastname",
        "phone",
        "mobilephone",
        "company",
        "jobtitle",
        "address",
        "city",
        "state",
        "zip",
    ]
    .into_iter()
    .chain(["country", "website", "hubspot_owner_id"])
    .map(text)
    .collect();
    definitions.push(text("email").unique());
    definitions.push(of("lifecyclestage", "enumeration").options(&["subscriber", "lead", "opportunity", "customer"]));
    fill(&mut made, definitions);
    made
}

pub(crate) fn custom(type_id: &str, name: &str) -> ObjectType {
    let shown = ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];
    let mut made = object_type(type_id, name, name, "hs_lastmodifieddate", &shown);
    fill(&mut made, vec![PropertyDef::new("name", "string")]);
    made
}
