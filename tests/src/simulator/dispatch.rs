//! From a request that passed the outer checks to its handler.

use super::Inner;
use super::errors::ApiError;
use super::query::{ApiRequest, Reply};
use super::route::Op;
use super::store::Core;

/// Runs the operation and queues its events.
pub(crate) fn apply(inner: &Inner, content_type: &str, request: &ApiRequest) -> Result<Reply, ApiError> {
    if request.route.op == Op::Token {
        let mut core = inner.core();
        let now = core.clock.now();
        let (status, body) = core.tokens.issue(content_type, &request.body, now);
        return Ok(Reply::json(status, body));
    }
    if !request.body.is_empty() && !content_type.starts_with("application/json") {
        return Err(ApiError::new(
            415,
            "VALIDATION_ERROR",
            "Unsupported Media Type: send application/json",
        ));
    }
    if matches!(
        request.route.op,
        Op::WebhookSettings
            | Op::WebhookSettingsSet
            | Op::SubscriptionList
            | Op::SubscriptionCreate
            | Op::SubscriptionUpdate
    ) {
        return inner.manage_webhooks(request);
    }
    if request.route.op.is_journal() {
        return inner.journal(request);
    }
    if matches!(request.route.op, Op::ExportStart | Op::ExportStatus) {
        return inner.exports(request);
    }
    let usage = (request.route.op == Op::AccountUsage).then(|| {
        let limiter = inner.limiter();
        (limiter.today(), limiter.daily_limit.unwrap_or(250_000))
    });
    let mut core = inner.core();
    if let Some((used, limit)) = usage {
        return Ok(core.account_usage(used, limit));
    }
    let result = dispatch(&mut core, request);
    inner.publish(&mut core);
    result
}

fn dispatch(core: &mut Core, request: &ApiRequest) -> Result<Reply, ApiError> {
    let op = request.route.op;
    match op {
        Op::Unknown => return Err(ApiError::not_found("The requested resource does not exist")),
        Op::AccountDetails => return Ok(core.account_details()),
        _ => {}
    }
    let (type_id, kind) = if op == Op::SchemaList {
        (String::new(), "custom".to_owned())
    } else {
        let type_id = core.schemas.resolve(&request.route.object_type)?;
        let kind = core.schemas.get(&type_id)?.scope().to_owned();
        (type_id, kind)
    };
    let needed = op.scopes(&kind);
    let granted = |all: &Vec<String>| needed.is_empty() || needed.iter().any(|scope| all.contains(scope));
    if !core.tokens.scopes.as_ref().is_none_or(granted) {
        return Err(ApiError::missing_scopes(&needed));
    }
    let (type_id, name) = (type_id.as_str(), request.route.id.as_str());
    match op {
        Op::GetOne => core.get_one(type_id, request),
        Op::List => core.list(type_id, request),
        Op::Create => core.create_one(type_id, request),
        Op::Update => core.update_one(type_id, request),
        Op::Archive => core.archive_one(type_id, request),
        Op::BatchRead => core.batch_read(type_id, request),
        Op::BatchCreate | Op::BatchUpdate | Op::BatchUpsert => core.batch_write(type_id, op, request),
        Op::BatchArchive => core.batch_archive(type_id, request),
        Op::Search => core.search(type_id, request),
        Op::Merge => core.merge_two(type_id, request),
        Op::GdprDelete => core.gdpr_delete(type_id, request),
        Op::PropertyList => core.property_list(type_id, request),
        Op::PropertyGet => core.property_get(type_id, request),
        Op::PropertyCreate => core.property_create(type_id, request),
        Op::PropertyUpdate => core.property_update(type_id, request),
        Op::PropertyDelete => core.property_delete(type_id, name),
        Op::PropertyBatchCreate => core.property_batch_create(type_id, request),
        Op::PropertyBatchRead => core.property_batch_read(type_id, request),
        Op::PropertyBatchArchive => core.property_batch_archive(type_id, request),
        Op::GroupList => core.group_list(type_id),
        Op::GroupGet => core.group_get(type_id, name),
        Op::GroupCreate => core.group_create(type_id, request),
        Op::GroupUpdate => core.group_update(type_id, request),
        Op::GroupDelete => core.group_delete(type_id, name),
        Op::SchemaList => core.schema_list(),
        Op::Any
        | Op::AccountDetails
        | Op::AccountUsage
        | Op::Token
        | Op::WebhookSettings
        | Op::WebhookSettingsSet
        | Op::SubscriptionList
        | Op::SubscriptionCreate
        | Op::SubscriptionUpdate
        | Op::JournalEntry
        | Op::JournalSubscriptionList
        | Op::JournalSubscriptionCreate
        | Op::JournalSubscriptionDelete
        | Op::ExportStart
        | Op::ExportStatus
        | Op::Unknown => Err(ApiError::not_found("The requested resource does not exist")),
    }
}
