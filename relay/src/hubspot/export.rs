//! HubSpot's exports: asked for, looked at until they are ready, and fetched as a file from a link that soon ends.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::client::{CallError, Client, refused, transport_failure};
use super::error::{Failure, FailureClass};

/// How long the file may take: it holds all records of a type.
const FILE_TIMEOUT: Duration = Duration::from_secs(600);
/// HubSpot names the types of exports in its own way; others, such as `2-17`, go by the name they have.
const NAMES: [(&str, &str); 7] = [
    ("contacts", "CONTACT"),
    ("companies", "COMPANY"),
    ("deals", "DEAL"),
    ("tickets", "TICKET"),
    ("products", "PRODUCT"),
    ("line_items", "LINE_ITEM"),
    ("quotes", "QUOTE"),
];

/// HubSpot's answer to a wish for an export.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    id: String,
}

/// How far an export is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportStatus {
    /// `PENDING`, `PROCESSING`, `COMPLETE` or `CANCELED`.
    pub(crate) status: String,
    /// Link to the file, for some minutes; each look gives a new one.
    result: Option<String>,
    /// What went wrong in it.
    #[serde(rename = "numErrors")]
    pub(crate) errors: u64,
}

impl Client {
    /// Asks for a CSV file with all records of a type that are not archived, with the names and values that the API uses. Gives
    /// HubSpot's id of the export.
    pub(crate) async fn export(
        &self,
        object_type: &str,
        properties: &[String],
        deadline: Instant,
    ) -> Result<String, CallError> {
        let name = NAMES.iter().find(|(ours, _)| *ours == object_type);
        let mut wanted = vec!["hs_object_id"];
        wanted.extend(
            properties
                .iter()
                .map(String::as_str)
                .filter(|name| *name != "hs_object_id"),
        );
        let body = json!({"exportType": "VIEW", "exportName": "hubspot_sync first load", "format": "CSV", "language": "EN",
            "objectType": name.map_or(object_type, |(_, theirs)| theirs), "objectProperties": wanted,
            "exportInternalValuesOptions": ["NAMES", "VALUES"], "associatedObjectType": [], "includeLabeledAssociations": false,
            "includePrimaryDisplayPropertyForAssociatedObjects": false, "overrideAssociatedObjectsPerDefinitionPerRowLimit": false});
        let asked: Asked = self
            .call("export", Method::POST, &self.version().export(), Some(&body), deadline)
            .await?;
        if asked.id.is_empty() {
            return Err(CallError::Failed(invalid("HubSpot gave no id of the export")));
        }
        Ok(asked.id)
    }

    /// How far an export is.
    pub(crate) async fn export_status(&self, task: &str, deadline: Instant) -> Result<ExportStatus, CallError> {
        self.get("export_status", &self.version().export_status(task), deadline)
            .await
    }

    /// Writes an export's file. Its link is another host's, so no token goes with it.
    pub(crate) async fn export_file(&self, status: &ExportStatus, file: &mut File) -> Result<(), Failure> {
        const OPERATION: &str = "export_file";
        let started = Instant::now();
        let answer = self
            .fetch_file(OPERATION, status.result.as_deref().unwrap_or_default(), file)
            .await;
        self.count(OPERATION, answer.as_ref().err(), started);
        answer
    }

    async fn fetch_file(&self, operation: &'static str, url: &str, file: &mut File) -> Result<(), Failure> {
        if !url.starts_with("https://") && !self.base_url().starts_with("http://") {
            return Err(invalid("the link to an export's file is not https"));
        }
        let request = self.http().get(url).timeout(FILE_TIMEOUT);
        let mut answer = request
            .send()
            .await
            .map_err(|error| transport_failure(operation, &error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refused(operation, status, None, None));
        }
        while let Some(part) = answer
            .chunk()
            .await
            .map_err(|error| transport_failure(operation, &error))?
        {
            file.write_all(&part).map_err(|_| {
                invalid("an export's file cannot be kept: see the free space of the folder for temporary files")
            })?;
        }
        Ok(())
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new("export", FailureClass::Invalid, None, message)
}
