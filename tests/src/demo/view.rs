//! What each side holds of a customer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};

use super::screen::Screen;
use crate::world::World;

/// A field as both sides know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Its name for people.
    pub(super) name: &'static str,
    /// The expression over the row.
    pub(super) row: &'static str,
    /// The company's property.
    pub(super) property: &'static str,
}

const fn field(name: &'static str, row: &'static str, property: &'static str) -> Field {
    Field { name, row, property }
}

pub(super) const BALANCE: Field = field("current_balance", "current_balance", "warp_current_balance");
pub(super) const STATUS: Field = field("status", "status", "warp_status");
pub(super) const CREDIT_LIMIT: Field = field("credit_limit", "credit_limit", "warp_credit_limit");
pub(super) const NAME: Field = field("company_name", "company_name", "name");
pub(super) const LEGAL_NAME: Field = field("legal_name", "legal_name", "warp_legal_name");
pub(super) const PHONE: Field = field("contact.phone", "contact->>'phone'", "phone");
pub(super) const EMAIL: Field = field("contact.email", "contact->>'email'", "domain");
pub(super) const STREET: Field = field("address.street", "address->>'line1'", "address");
pub(super) const CITY: Field = field("address.city", "address->>'city'", "city");
pub(super) const ZIP: Field = field("address.zip", "address->>'zip'", "zip");

/// A customer with its company.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    /// Primary key in PostgreSQL.
    pub(super) key: String,
    /// Id in HubSpot.
    pub(super) id: String,
}

impl Customer {
    /// The customer with that number.
    pub(super) async fn number(world: &World, number: usize) -> Result<Customer> {
        let key = world
            .text(&format!("SELECT id::text FROM customers WHERE ban = 'BAN-{number:04}'"))
            .await?
            .with_context(|| format!("there is no customer {number}"))?;
        let id = world
            .hubspot_id(&key)
            .await?
            .with_context(|| format!("customer {number} is not linked"))?;
        Ok(Customer { key, id })
    }

    /// The row's value.
    pub(super) async fn here(&self, world: &World, field: Field) -> Result<Option<String>> {
        world.row(&self.key, field.row).await
    }

    /// The company's value.
    pub(super) fn there(&self, world: &World, field: Field) -> Option<String> {
        world.hubspot(&self.id, field.property)
    }

    /// Changes the row as an application does.
    pub(super) async fn update(&self, world: &World, screen: &Screen, set: &str) -> Result<()> {
        let statement = format!("UPDATE customers SET {set} WHERE id = {};", self.key);
        let lines: Vec<&str> = statement.lines().map(str::trim).collect();
        screen.act("PostgreSQL", &lines.join("\n"));
        world.update(&self.key, set).await
    }

    /// Changes the company as a person in HubSpot does.
    pub(super) fn edit(&self, world: &World, screen: &Screen, field: Field, value: &str) -> Result<()> {
        screen.act("HubSpot", &format!("somebody sets {} to {value}", field.property));
        world
            .sim
            .ui_set("companies", &self.id, field.property, value)
            .map_err(|error| anyhow!("HubSpot refused {value} for {}: {error:?}", field.property))
    }

    /// Lines of a table: a moment, and what both sides hold of some fields.
    pub(super) async fn lines(&self, world: &World, moment: &str, fields: &[Field]) -> Result<Vec<Vec<String>>> {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "(empty)".to_owned());
        let mut lines = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            lines.push(vec![
                if index == 0 { moment.to_owned() } else { String::new() },
                field.name.to_owned(),
                shown(self.here(world, *field).await?),
                shown(self.there(world, *field)),
            ]);
        }
        Ok(lines)
    }

    /// Versions that HubSpot keeps of each mapped property.
    pub(super) async fn versions(&self, world: &World) -> Result<BTreeMap<String, usize>> {
        let sql = "SELECT hubspot_property FROM hubspot.field_mapping WHERE active AND sync_direction <> 'NONE'";
        let rows = world.sql.query(sql, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| row.get::<_, String>(0))
            .map(|property| {
                let versions = world.sim.history("companies", &self.id, &property).len();
                (property, versions)
            })
            .collect())
    }
}

/// The head of the tables that [`Customer::lines`] fills.
pub(super) const SIDES: [&str; 4] = ["", "field", "PostgreSQL", "HubSpot"];

/// Customers whose company differs in name, balance or city.
pub(super) async fn differing(world: &World) -> Result<usize> {
    let sql = "SELECT l.hubspot_id, c.company_name, c.current_balance::float8, c.address->>'city'
        FROM customers c LEFT JOIN hubspot.link l ON l.entity_key = c.id::text";
    let mut differing = 0;
    for row in world.sql.query(sql, &[]).await? {
        let company = row
            .get::<_, Option<String>>(0)
            .and_then(|id| world.sim.get("companies", &id));
        let same = company.is_some_and(|company| {
            let balance = company
                .value("warp_current_balance")
                .and_then(|v| v.parse::<f64>().ok());
            company.value("name") == row.get::<_, Option<&str>>(1)
                && balance == row.get::<_, Option<f64>>(2)
                && company.value("city") == row.get::<_, Option<&str>>(3)
        });
        differing += usize::from(!same);
    }
    Ok(differing)
}
