//! Account information.

use serde_json::json;

use super::clock::iso;
use super::query::Reply;
use super::store::Core;

impl Core {
    pub(crate) fn account_details(&self) -> Reply {
        Reply::json(
            200,
            json!({"portalId": self.portal_id, "accountType": "STANDARD", "timeZone": "Europe/Berlin",
                "companyCurrency": "EUR", "additionalCurrencies": [], "utcOffset": "+00:00",
                "utcOffsetMilliseconds": 0, "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1"}),
        )
    }

    pub(crate) fn account_usage(&self, used: u64, limit: u64) -> Reply {
        let now = self.clock.now();
        Reply::json(
            200,
            json!({"results": [{"name": "private-apps-api-calls-daily", "usageLimit": limit, "currentUsage": used,
                "collectedAt": iso(now), "fetchStatus": "SUCCESS", "resetsAt": iso(now + 86_400_000)}]}),
        )
    }
}
