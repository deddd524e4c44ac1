//! Finding out from HubSpot's error which property of a record was refused.

use serde_json::Value;

use super::model::{ErrorBody, context_strings};

/// The refused property, when the error names one.
///
/// HubSpot names it in `errors[].context.propertyName`, in `context.propertyName`, or only in the JSON list that follows
/// the colon in `message`, in this order of trust.
pub fn refused_property(error: &ErrorBody) -> Option<String> {
    error
        .errors
        .iter()
        .find_map(|detail| named(&detail.context))
        .or_else(|| named(&error.context))
        .or_else(|| error.message.as_deref().and_then(in_message))
        .or_else(|| {
            error
                .errors
                .iter()
                .find_map(|detail| detail.message.as_deref().and_then(in_message))
        })
}

fn named(context: &Value) -> Option<String> {
    ["propertyName", "propertyNames"]
        .iter()
        .find_map(|name| context_strings(context, name).into_iter().next())
}

/// The first `name` in the JSON list inside a message such as `Property values were not valid: [{…,"name":"x"}]`.
fn in_message(message: &str) -> Option<String> {
    let start = message.find("[{")?;
    // The list may be followed by more text: read one JSON value and leave the rest.
    let mut values = serde_json::Deserializer::from_str(message.get(start..)?).into_iter::<Value>();
    let list = values.next()?.ok()?;
    list.as_array()?.iter().find_map(|item| {
        ["name", "propertyName"]
            .iter()
            .find_map(|key| item.get(key)?.as_str().map(ToOwned::to_owned))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn property(body: Value) -> Option<String> {
        refused_property(&serde_json::from_value(body).unwrap())
    }

    #[test]
    fn from_context_then_message() {
        let message =
            r#"Property values were not valid: [{"isValid":false,"message":"no such \"x\"","error":"E","name":"x"}]"#;
        assert_eq!(property(json!({"message": message})).as_deref(), Some("x"));
        assert_eq!(
            property(json!({"message": format!("{message} (and more)")})).as_deref(),
            Some("x")
        );
        let both = json!({"message": message, "errors":[{"context":{"propertyName":["y"]}}]});
        assert_eq!(property(both).as_deref(), Some("y"));
        assert_eq!(
            property(json!({"context":{"propertyName":["z"]}})).as_deref(),
            Some("z")
        );
    }

    #[test]
    fn none_when_nothing_is_named() {
        for message in ["", "invalid", "list: [{", "list: [{\"a\":1}]", "ids: [1, 2]"] {
            assert_eq!(property(json!({"message": message})), None, "{message}");
        }
    }
}
