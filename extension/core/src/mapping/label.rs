//! The words users type for directions, strategies and frequencies.

use std::fmt;
use std::str::FromStr;

use super::{Direction, Frequency, Strategy, UnknownLabel};

/// An enum with one word per variant, `words` and `variants` in the same order, under one mapping key.
macro_rules! labels {
    ($type:ident, $what:literal, $($variant:ident = $word:literal),+ $(,)?) => {
        impl $type {
            /// Every label, in the strategy's order.
            pub const LABELS: &'static [&'static str] = &[$($word),+];

            /// The label users type and see.
            pub fn label(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl FromStr for $type {
            type Err = UnknownLabel;

            fn from_str(word: &str) -> Result<$type, UnknownLabel> {
                match word {
                    $($word => Ok($type::$variant),)+
                    _ => Err(UnknownLabel { what: $what, allowed: $type::LABELS }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labels!(
    Direction,
    "sync_direction",
    WarpToHubspot = "WARP_TO_HUBSPOT",
    HubspotToWarp = "HUBSPOT_TO_WARP",
    Bidirectional = "BIDIRECTIONAL",
    None = "NONE",
);
labels!(
    Strategy,
    "conflict_resolution",
    WarpWins = "WARP_WINS",
    HubspotWins = "HUBSPOT_WINS",
    LatestWins = "LATEST_WINS",
    Manual = "MANUAL",
);
labels!(Frequency, "update_frequency", RealTime = "real-time", Batch = "batch");
