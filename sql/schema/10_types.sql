-- Types. The labels are the strategy's own words and a contract with everybody who types them.

CREATE TYPE hubspot.sync_direction AS ENUM ('WARP_TO_HUBSPOT', 'HUBSPOT_TO_WARP', 'BIDIRECTIONAL', 'NONE');
COMMENT ON TYPE hubspot.sync_direction IS
'Which way a field''s values may flow. WARP_TO_HUBSPOT: the row is authoritative and HubSpot''s changes are skipped. HUBSPOT_TO_WARP: HubSpot is authoritative and the row''s changes are skipped. BIDIRECTIONAL: both may change it. NONE: tracked only.';

CREATE TYPE hubspot.conflict_resolution AS ENUM ('WARP_WINS', 'HUBSPOT_WINS', 'LATEST_WINS', 'MANUAL');
COMMENT ON TYPE hubspot.conflict_resolution IS
'Who wins when both sides changed a field since they last agreed. LATEST_WINS compares edit times, ties go to HubSpot. MANUAL holds the field until hubspot.resolve_conflict is called.';
