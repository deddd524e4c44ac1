//! What a test switches and counts: faults, gates, limits, tokens, webhooks, the request log.

use serde_json::Value;

use super::{
    Behaviour, Delivery, Fault, FaultKind, Gate, GatePoint, Op, RequestLog, Simulator, Subscription, WebhookFaults,
};

impl Simulator {
    /// Switches a fault on for the next requests of an operation.
    pub fn fault(&self, fault: Fault) {
        self.inner.faults().add(fault);
    }

    /// Switches a fault on for every request of an operation, by chance.
    pub fn fault_by_chance(&self, op: Op, kind: FaultKind, probability: f64) {
        self.inner.faults().add_random(op, kind, probability);
    }

    /// Switches all faults of requests off.
    pub fn clear_faults(&self) {
        self.inner.faults().clear();
    }

    /// Switches those faults off that come by chance; counted ones still wait for their request.
    pub fn clear_chance_faults(&self) {
        self.inner.faults().clear_random();
    }

    /// How often requests of an operation met which fault, since the start.
    pub fn met_faults(&self) -> std::collections::HashMap<(Op, FaultKind), usize> {
        self.inner.faults().met().clone()
    }

    /// Counted faults that no request has met yet.
    pub fn pending_faults(&self) -> u32 {
        self.inner.faults().pending()
    }

    /// Holds requests of an operation after they were applied, before their answer.
    pub fn gate(&self, op: Op) -> Gate {
        self.inner.faults().gate(op, GatePoint::AfterApply)
    }

    /// Holds requests of an operation before they are applied.
    pub fn gate_before(&self, op: Op) -> Gate {
        self.inner.faults().gate(op, GatePoint::BeforeApply)
    }

    /// Changes behaviour.
    pub fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.inner.core().behaviour);
    }

    /// Sets the limit of the 10 s window; 0 switches it off.
    pub fn set_rate_limit(&self, limit: u32) {
        self.inner.limiter().window_limit = limit;
    }

    /// Sets the daily limit and starts a new day.
    pub fn set_daily_limit(&self, limit: Option<u64>) {
        let mut limiter = self.inner.limiter();
        limiter.daily_limit = limit;
        limiter.reset_day();
    }

    /// Sets the limit of search per second; 0 switches it off.
    pub fn set_search_limit(&self, limit: u32) {
        self.inner.limiter().search_limit = limit;
    }

    /// Now, by the simulator's clock, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.inner.core().clock.now()
    }

    /// Sets how far the simulator's clock is off.
    pub fn set_clock_offset(&self, offset_ms: i64) {
        self.inner.core().clock.set_offset(offset_ms);
        self.inner.webhooks.lock().clock.set_offset(offset_ms);
    }

    /// Accepts another static token, whose writes carry `app_id` as their source.
    pub fn add_token(&self, token: &str, app_id: u64) {
        self.inner.core().tokens.add(token, app_id);
    }

    /// Refuses a token from now on.
    pub fn revoke_token(&self, token: &str) {
        self.inner.core().tokens.revoke(token);
    }

    /// Ends all OAuth access tokens.
    pub fn expire_tokens(&self) {
        let mut core = self.inner.core();
        let now = core.clock.now();
        core.tokens.expire(now);
    }

    /// Replaces the refresh token.
    pub fn set_refresh_token(&self, token: &str) {
        token.clone_into(&mut self.inner.core().tokens.refresh_token);
    }

    /// The next refresh gives out this refresh token, and from then on no other is accepted.
    pub fn rotate_refresh_token(&self, token: &str) {
        self.inner.core().tokens.next_refresh_token = Some(token.to_owned());
    }

    /// Sets the granted scopes; `None` grants all.
    pub fn set_scopes(&self, scopes: Option<&[&str]>) {
        let scopes = scopes.map(|list| list.iter().map(|scope| (*scope).to_owned()).collect());
        self.inner.core().tokens.scopes = scopes;
    }

    /// Requests since the start or the last clearing.
    pub fn requests(&self) -> Vec<RequestLog> {
        self.inner.log().entries.clone()
    }

    /// Number of requests of an operation.
    pub fn count(&self, op: Op) -> usize {
        self.inner
            .log()
            .entries
            .iter()
            .filter(|entry| op.covers(entry.op))
            .count()
    }

    /// The largest number of requests in any span of `ms` milliseconds; search and token requests do not count.
    pub fn max_in_window(&self, ms: u64) -> usize {
        self.inner.log().max_in_window(ms)
    }

    /// Forgets the request log.
    pub fn clear_log(&self) {
        self.inner.log().entries.clear();
    }

    /// Sets where webhooks go; `None` sends none and forgets those that wait.
    pub fn set_webhook_url(&self, url: Option<&str>) {
        self.inner.webhooks.lock().url = url.map(str::to_owned);
        self.inner.webhooks.wake();
    }

    /// Sets the secret that signs webhooks.
    pub fn set_client_secret(&self, secret: &str) {
        secret.clone_into(&mut self.inner.webhooks.lock().secret);
    }

    /// Sets the subscriptions; `None` subscribes to everything.
    pub fn set_subscriptions(&self, subscriptions: Option<Vec<Subscription>>) {
        self.inner.webhooks.lock().formatter.subscriptions = subscriptions;
    }

    /// Sets the faults of webhooks.
    pub fn webhook_faults(&self, faults: WebhookFaults) {
        self.inner.webhooks.lock().faults = faults;
    }

    /// Stops sending webhooks; events wait.
    pub fn hold_webhooks(&self) {
        self.inner.webhooks.hold(true);
    }

    /// Sends the events that waited, and all later ones.
    pub fn release_webhooks(&self) {
        self.inner.webhooks.hold(false);
    }

    /// Events that wait.
    pub fn held_webhooks(&self) -> Vec<Value> {
        self.inner.webhooks.waiting()
    }

    /// Sends selected events although webhooks are held; answers with their number.
    pub fn deliver_held(&self, wanted: impl FnMut(&Value) -> bool) -> usize {
        self.inner.webhooks.let_out(wanted)
    }

    /// Loses selected events that wait; answers with their number.
    pub fn discard_held(&self, wanted: impl FnMut(&Value) -> bool) -> usize {
        self.inner.webhooks.discard(wanted)
    }

    /// Sends an event that the test made up or kept from before.
    pub fn send_event(&self, event: Value) {
        self.inner.webhooks.inject(event);
    }

    /// Waits until every webhook that is not held was delivered or given up.
    pub async fn flush(&self) {
        self.inner.webhooks.flush().await;
    }

    /// Forgets the webhooks journal's entries, as HubSpot does after three days.
    pub fn forget_journal(&self) {
        super::lock(&self.inner.journal).forget();
    }

    /// The journal's next file that is asked for is not readable.
    pub fn spoil_journal_files(&self, times: u32) {
        super::lock(&self.inner.journal).spoiled = times;
    }

    /// Journal entries since the start, forgotten ones left out.
    pub fn journal_entries(&self) -> usize {
        super::lock(&self.inner.journal).len()
    }

    /// Events since the start, lost ones included; at most [`super::WebhookConfig::max_kept_events`] of them.
    pub fn events(&self) -> Vec<Value> {
        self.inner.webhooks.lock().emitted.iter().cloned().collect()
    }

    /// Deliveries that were tried.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.inner.webhooks.lock().deliveries.clone()
    }

    /// Events that were given up after the last attempt.
    pub fn given_up(&self) -> usize {
        self.inner.webhooks.lock().given_up
    }
}
