//! HubSpot's error bodies.

use std::fmt;

use serde_json::{Map, Value, json};

/// A refusal, as HubSpot words it.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// `category` of the body.
    pub category: String,
    /// `subCategory` of the body.
    pub sub_category: Option<String>,
    /// `message` of the body.
    pub message: String,
    /// `context` of the body.
    pub context: Box<Map<String, Value>>,
    /// `errors` of the body.
    pub errors: Vec<Value>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.category, self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// An error with a status, a category and a message.
    pub fn new(status: u16, category: &str, message: impl Into<String>) -> Self {
        ApiError {
            status,
            category: category.to_owned(),
            sub_category: None,
            message: message.into(),
            context: Box::default(),
            errors: Vec::new(),
        }
    }

    /// 400 `VALIDATION_ERROR`
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "VALIDATION_ERROR", message)
    }

    /// 404 `OBJECT_NOT_FOUND`
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "OBJECT_NOT_FOUND", message)
    }

    /// 400 for a body that is not what the endpoint takes.
    pub fn bad_json(detail: impl fmt::Display) -> Self {
        Self::validation(format!("Invalid input JSON on line 1, column 1: {detail}"))
    }

    /// 401 of an unknown token
    pub(crate) fn unauthorized() -> Self {
        let message = "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can \
                       find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview";
        Self::new(401, "INVALID_AUTHENTICATION", message)
    }

    /// 401 of a token that ran out
    pub(crate) fn expired(seconds: i64) -> Self {
        let message = format!("The OAuth token used to make this call expired {seconds} second(s) ago.");
        Self::new(401, "EXPIRED_AUTHENTICATION", message)
    }

    /// 403 without one of these scopes
    pub(crate) fn missing_scopes(scopes: &[String]) -> Self {
        let message = "This app hasn't been granted all required scopes to make this call. Read more about required \
                       scopes here: https://developers.hubspot.com/scopes.";
        let mut error = Self::new(403, "MISSING_SCOPES", message);
        let detail = "One or more of the following scopes are required.";
        error.errors = vec![json!({"message": detail, "context": {"requiredGranularScopes": scopes}})];
        error
    }

    /// Adds one list of strings to `context`.
    pub fn with_context<S: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = S>) -> Self {
        let list: Vec<Value> = values.into_iter().map(|value| Value::String(value.into())).collect();
        self.context.insert(key.to_owned(), Value::Array(list));
        self
    }

    /// Sets `subCategory`.
    pub fn with_sub_category(mut self, sub_category: &str) -> Self {
        self.sub_category = Some(sub_category.to_owned());
        self
    }

    /// 400 for values that a record cannot take.
    pub fn invalid_values(problems: &[ValueProblem]) -> Self {
        let list: Vec<Value> = problems.iter().map(ValueProblem::in_message).collect();
        let mut error = Self::validation(format!("Property values were not valid: {}", Value::Array(list)));
        error.errors = problems.iter().map(ValueProblem::in_errors).collect();
        error
    }

    /// The body of a whole-request failure.
    pub fn body(&self, correlation_id: &str) -> Value {
        let mut body = json!({
            "status": "error",
            "message": self.message,
            "correlationId": correlation_id,
            "category": self.category,
        });
        if let Some(sub_category) = &self.sub_category {
            body["subCategory"] = json!(sub_category);
        }
        if !self.context.is_empty() {
            body["context"] = Value::Object((*self.context).clone());
        }
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        body
    }

    /// One entry of `errors` in a batch response.
    pub fn batch_entry(&self) -> Value {
        json!({
            "status": "error",
            "category": self.category,
            "message": self.message,
            "context": self.context,
            "errors": self.errors,
            "links": {},
        })
    }
}

/// Why one value was refused.
#[derive(Debug, Clone)]
pub struct ValueProblem {
    /// The property.
    pub name: String,
    /// `PROPERTY_DOESNT_EXIST`, `INVALID_OPTION` ...
    pub code: String,
    /// Explanation.
    pub message: String,
}

impl ValueProblem {
    /// A problem with a property.
    pub fn new(name: &str, code: &str, message: impl Into<String>) -> Self {
        ValueProblem {
            name: name.to_owned(),
            code: code.to_owned(),
            message: message.into(),
        }
    }

    fn in_message(&self) -> Value {
        json!({"isValid": false, "message": self.message, "error": self.code, "name": self.name})
    }

    fn in_errors(&self) -> Value {
        json!({"message": self.message, "code": self.code, "context": {"propertyName": [self.name]}})
    }
}
