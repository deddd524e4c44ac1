//! Every built-in transform is a pair of inverse functions on canonical values.

use hubspot_sync_core::transform::Transform;
use hubspot_sync_core::value::{Value, ValueKind, from_warp};
use proptest::prelude::*;

fn value_of(kind: ValueKind) -> BoxedStrategy<Value> {
    match kind {
        ValueKind::Boolean => any::<bool>().prop_map(|b| Value::text(b.to_string())).boxed(),
        _ => "[+-]?[0-9]{1,25}(\\.[0-9]{0,25})?(e-?[0-9]{1,2})?"
            .prop_map(|text| from_warp(ValueKind::Number, Some(&text)).unwrap())
            .boxed(),
    }
}

fn case() -> impl Strategy<Value = (Transform, Value)> {
    prop::sample::select(&Transform::ALL[..]).prop_flat_map(|transform| {
        (
            Just(transform),
            prop_oneof![9 => value_of(transform.kind()), 1 => Just(Value::NULL)],
        )
    })
}

proptest! {
    #[test]
    fn pairs_are_inverse((transform, value) in case()) {
        let there = transform.to_warp(&value).unwrap();
        prop_assert_eq!(transform.to_hubspot(&there).unwrap(), value.clone());
        let back = transform.to_hubspot(&value).unwrap();
        prop_assert_eq!(transform.to_warp(&back).unwrap(), value.clone());
        prop_assert_eq!(there.is_null(), value.is_null());
    }

    #[test]
    fn results_are_canonical((transform, value) in case()) {
        for result in [transform.to_warp(&value).unwrap(), transform.to_hubspot(&value).unwrap()] {
            prop_assert_eq!(from_warp(transform.kind(), result.as_deref()), Ok(result.clone()));
        }
    }

    #[test]
    fn any_text_gives_a_value_or_an_error(text in any::<String>(), transform in prop::sample::select(&Transform::ALL[..])) {
        let value = Value::text(text);
        let _ = (transform.to_warp(&value), transform.to_hubspot(&value));
    }
}
