//! Signature vectors: digests checked against two official SDKs, HubSpot's published examples, and forms that must fail.

use super::*;
use axum::http::{HeaderName, HeaderValue};

const SECRET: &str = "11111111-2222-3333-4444-555555555555";
const STAMP: &str = "1764000000000";
const STAMP_MS: i64 = 1_764_000_000_000;
const U: &str = "https://sync.example.com/hubspot/webhook";
const U_HTTP: &str = "http://sync.example.com/hubspot/webhook";
const BODY_A: &str = r##"[{"eventId":100,"subscriptionId":2001,"portalId":62515,"appId":54321,"occurredAt":1763999999000,"subscriptionType":"company.propertyChange","attemptNumber":0,"objectId":9001,"propertyName":"name","propertyValue":"Acme","changeSource":"CRM_UI","sourceId":"userId:77"}]"##;
const BODY_B: &str = r##"[{"eventId":101,"subscriptionId":2001,"portalId":62515,"appId":54321,"occurredAt":1763999999001,"subscriptionType":"company.propertyChange","attemptNumber":1,"objectId":9001,"propertyName":"name","propertyValue":"Zoë & Søn GmbH – 東京 🚀","changeSource":"INTEGRATION","sourceId":"54321"}]"##;
const BODY_C: &str = r##"[{"eventId":101,"subscriptionId":2001,"portalId":62515,"appId":54321,"occurredAt":1763999999001,"subscriptionType":"company.propertyChange","attemptNumber":1,"objectId":9001,"propertyName":"name","propertyValue":"Zo\u00eb & S\u00f8n GmbH \u2013 \u6771\u4eac \ud83d\ude80","changeSource":"INTEGRATION","sourceId":"54321"}]"##;
const BODY_J: &str = r##"[{"eventId":201,"subscriptionId":2002,"portalId":62515,"appId":54321,"occurredAt":1763999999500,"subscriptionType":"company.creation","attemptNumber":0,"objectId":9002,"changeFlag":"CREATED","changeSource":"CRM_UI","sourceId":"userId:77"},{"eventId":202,"subscriptionId":2003,"portalId":62515,"appId":54321,"occurredAt":1763999999600,"subscriptionType":"company.merge","attemptNumber":0,"objectId":9003,"primaryObjectId":9001,"mergedObjectIds":[9002],"newObjectId":9003,"numberOfPropertiesMoved":4,"changeFlag":"MERGED","changeSource":"CRM_UI","sourceId":"userId:77"}]"##;
const UQ_WIRE: &str =
    r#"https://sync.example.com/hubspot/webhook?tenant=a%3Ab&next=%2Fx%2Fy&note=1%2B1%20%3D%202&mail=q%40ex.com"#;
const UQ_HASH: &str =
    r#"https://sync.example.com/hubspot/webhook?tenant=a:b&next=/x/y&note=1%2B1%20%3D%202&mail=q@ex.com"#;
const UG_WIRE: &str =
    r#"https://sync.example.com/hubspot/webhook?s=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B&k=%25%26%3D%2B%23%20%C3%A9"#;
const UG_HASH: &str = r#"https://sync.example.com/hubspot/webhook?s=:/?@!$'()*,;&k=%25%26%3D%2B%23%20%C3%A9"#;

/// Body and v1 digest.
const V1: &[(&str, &str)] = &[
    (
        BODY_A,
        "ac03b4d5c800dbe85e7530c0910e4096ead5489c685f72220422058d2ea8086b",
    ),
    (
        BODY_B,
        "cd01697b3df041dc3f59678befcfe6654aeeb198c4b2682667caa00966c6dd96",
    ),
    (
        BODY_C,
        "3a226d9fd0dd22e19c3d8cde0da63389a11dbbfc4a2048336b8716d65d4c7fc0",
    ),
    (
        BODY_J,
        "fc536355886fafdd8d78293eacf190a1228654d7e3a06f96ceb7234093bd5ff1",
    ),
    ("[]", "dd9714774fe02ae08de7379b952583d669974c401f20179df269dcb3de593349"),
    ("", "666ff6ccaa5b3c07feaa3a95d3a4bd2c46ac9e9abdb09ca9133528d3dc1e8952"),
];

/// Body, method, URL as hashed, v2 digest.
const V2: &[(&str, &str, &str, &str)] = &[
    (
        BODY_A,
        "POST",
        U,
        "d8925bf0aec5334433131101b87b13cc3757086b87e06b6c6cc6a5b6a96730b5",
    ),
    (
        BODY_B,
        "POST",
        U,
        "ddf7232d9488ead4033339470e01d2169d822cdd0a5f2f1d4cc8d155bc8f9474",
    ),
    (
        BODY_C,
        "POST",
        U,
        "995c4fc3a14e4303e64b16784bc1173acb65ca277465aee0c8b89679d46a50c4",
    ),
    (
        BODY_J,
        "POST",
        U,
        "a44e74d6b8b67e682438186421f150404147071ad5fa379bdc13bbe2548bfaac",
    ),
    (
        BODY_A,
        "POST",
        UQ_WIRE,
        "9f074c4a96090d29e441496ff9c9d1b3c62f1180a9a1b7034711fb4f469f5490",
    ),
    (
        BODY_A,
        "POST",
        UQ_HASH,
        "08e56a07a64ebf4d0aecf9f4cb89b9efbc3351f69eb6468dbdfd2bca778a12cb",
    ),
    (
        BODY_B,
        "POST",
        UQ_HASH,
        "76321a4d89ee01256e405e2bdad518d674b5e5fbbe6ff9d0b466e7e3e730ecdc",
    ),
    (
        BODY_A,
        "POST",
        UG_WIRE,
        "9a81a1975cf7931f022019cac5216f585bce382f63c3f1ef880448ff98e9695d",
    ),
    (
        BODY_A,
        "POST",
        UG_HASH,
        "52573c307bd0b6d5e92c099795f77c33aba5008653804cbd0a87df2f5c20f46b",
    ),
    (
        "",
        "POST",
        U,
        "cd6ed1f768aa0af74a8e11b9005c9eb1890a74b2ab29893752b5d0089dd7786c",
    ),
    (
        "",
        "GET",
        U,
        "56f897acdf542052e55c36dde47d71f3972ceb5894aee4d497e508fe6b2c9001",
    ),
];

/// Body, method, URL as hashed, v3 digest.
const V3: &[(&str, &str, &str, &str)] = &[
    (BODY_A, "POST", U, "/NuuWsUb+LYjXpji2/YiQK6hPiO9FwP3o4BPiRvzsz8="),
    (BODY_B, "POST", U, "G4ySzcsa7uZeZEkJ8azLmdWKZ2y2qU2GGV7qAWznvIc="),
    (BODY_C, "POST", U, "vD2JrIWb2zl4hwhR94kqx20L59FSLb2kDFi5vt7b5gw="),
    (BODY_J, "POST", U, "LZzU4vLJVrXqa1Ts81pjj2LV4VnMwthjCI87/ShTGTM="),
    (BODY_A, "POST", UQ_HASH, "noA+G40xJ6L2du2VYXt9it/A0P++/LVHjx4Df2dIviw="),
    (BODY_A, "POST", UQ_WIRE, "AEvk5ScSuY+DOrAYCJJaytD7clsuYmbY4R1FYeQ6W2I="),
    (BODY_B, "POST", UQ_HASH, "IUh5k36GlLgwUzcVSwXq3Gk2bB+Lu94Twf9gxj+q41g="),
    (BODY_A, "POST", UG_HASH, "LNVJmsxoson7ggHBtcfw+4n9/HD25yLY8UcCV7fkWrI="),
    (BODY_A, "POST", UG_WIRE, "uJcWSqkssmf8pUOjfJ/UimOCnKP3EFbOFga8c1YKfHQ="),
    (BODY_A, "POST", U_HTTP, "oVUbhlAH40nLcNrHitjkvw0NJUgAvOQvw55jg/gIfYI="),
    ("[]", "POST", U, "CLDggi151R2q+8/IAzMNK7ma9Sz5LKpzG7Ko6u0RYU4="),
    ("", "POST", U, "k2ze5p0xYbWBL9hrKkmFm6V9WFWo3r+Ab77eb05sDOo="),
    ("", "GET", U, "HZxweikYLpoH7MAOMXyN+WS3OzufyZwvA/KdSMBXaac="),
];

fn verifier(secret: &str, accept: &[SignatureForm]) -> Verifier {
    Verifier::new(
        SecretString::from(secret.to_owned()),
        accept.to_vec(),
        Duration::from_secs(300),
    )
}

fn all() -> Verifier {
    verifier(SECRET, &[SignatureForm::V3, SignatureForm::V2, SignatureForm::V1])
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn old(signature: &str, version: &str) -> HeaderMap {
    headers(&[
        ("x-hubspot-signature", signature),
        ("x-hubspot-signature-version", version),
    ])
}

fn v3(signature: &str, stamp: &str) -> HeaderMap {
    headers(&[
        ("x-hubspot-signature-v3", signature),
        ("x-hubspot-request-timestamp", stamp),
    ])
}

fn verify(by: &Verifier, headers: &HeaderMap, method: &str, uri: &str, body: &str) -> Result<(), Refused> {
    by.verify(
        headers,
        Signed {
            method,
            uris: &[uri.to_owned()],
            body: body.as_bytes(),
        },
        STAMP_MS,
    )
}

#[test]
fn v1_vectors() {
    for (body, digest) in V1 {
        assert_eq!(verify(&all(), &old(digest, "v1"), "POST", U, body), Ok(()), "{digest}");
        // v1 is what HubSpot sends when it names no version.
        assert_eq!(
            verify(&all(), &headers(&[("x-hubspot-signature", digest)]), "POST", U, body),
            Ok(())
        );
        assert_eq!(verify(&all(), &old(digest, "v1"), "POST", U, "x"), Err(Refused::Wrong));
        assert_eq!(verify(&all(), &old(digest, "v2"), "POST", U, body), Err(Refused::Wrong));
    }
}

#[test]
fn v2_vectors() {
    for (body, method, uri, digest) in V2 {
        assert_eq!(
            verify(&all(), &old(digest, "v2"), method, uri, body),
            Ok(()),
            "{digest}"
        );
        assert_eq!(
            verify(&all(), &old(digest, "v2"), method, U_HTTP, body),
            Err(Refused::Wrong)
        );
        assert_eq!(
            verify(&all(), &old(digest, "v1"), method, uri, body),
            Err(Refused::Wrong)
        );
    }
}

#[test]
fn v3_vectors() {
    for (body, method, uri, digest) in V3 {
        let undecoded = *uri == UQ_WIRE || *uri == UG_WIRE;
        // The URL as hashed is what the URL on the wire decodes to; one signed undecoded must fail.
        let expected = if undecoded { Err(Refused::Wrong) } else { Ok(()) };
        assert_eq!(
            verify(&all(), &v3(digest, STAMP), method, uri, body),
            expected,
            "{digest}"
        );
        assert_eq!(
            verify(&all(), &v3(digest, STAMP), method, uri, "x"),
            Err(Refused::Wrong)
        );
    }
    assert_eq!(decode_uri(UQ_WIRE), UQ_HASH);
    assert_eq!(decode_uri(UG_WIRE), UG_HASH);
    assert_eq!(decode_uri("https://x/%"), "https://x/%");
    assert_eq!(decode_uri("https://x/%é%3a"), "https://x/%é:");
}

#[test]
fn v3_on_the_wire_form_of_the_url() {
    assert_eq!(
        verify(
            &all(),
            &v3("noA+G40xJ6L2du2VYXt9it/A0P++/LVHjx4Df2dIviw=", STAMP),
            "POST",
            UQ_WIRE,
            BODY_A
        ),
        Ok(())
    );
    assert_eq!(
        verify(
            &all(),
            &v3("LNVJmsxoson7ggHBtcfw+4n9/HD25yLY8UcCV7fkWrI=", STAMP),
            "POST",
            UG_WIRE,
            BODY_A
        ),
        Ok(())
    );
}

#[test]
fn wrong_forms_are_rejected() {
    let hex = "ffb693a03e9727e54b8909a5f0d6550afd8534841e5150db213b585fdc38af3c";
    let github = format!("sha256={hex}");
    let v3_hex = "fcdbae5ac51bf8b6235e98e2dbf62240aea13e23bd1703f7a3804f891bf3b33f";
    for candidate in [github.as_str(), hex, v3_hex, "", "0"] {
        for version in ["v1", "v2", "v3"] {
            assert!(
                verify(&all(), &old(candidate, version), "POST", U, BODY_A).is_err(),
                "{candidate} {version}"
            );
        }
        assert!(
            verify(&all(), &v3(candidate, STAMP), "POST", U, BODY_A).is_err(),
            "{candidate} v3"
        );
    }
    assert_eq!(
        verify(&all(), &HeaderMap::new(), "POST", U, BODY_A),
        Err(Refused::Missing)
    );
}

#[test]
fn the_sha256_form_only_when_configured() {
    let header = "sha256=ffb693a03e9727e54b8909a5f0d6550afd8534841e5150db213b585fdc38af3c";
    let headers = headers(&[("x-hubspot-signature", header)]);
    let by = verifier(SECRET, &[SignatureForm::V3, SignatureForm::Sha256]);
    assert_eq!(verify(&by, &headers, "POST", U, BODY_A), Ok(()));
    assert_eq!(verify(&by, &headers, "POST", U, BODY_B), Err(Refused::Wrong));
    assert_eq!(verify(&all(), &headers, "POST", U, BODY_A), Err(Refused::Missing));
}

#[test]
fn v3_is_fresh_and_never_downgraded() {
    let good = "/NuuWsUb+LYjXpji2/YiQK6hPiO9FwP3o4BPiRvzsz8=";
    let at = |now_ms| {
        let request = Signed {
            method: "POST",
            uris: &[U.to_owned()],
            body: BODY_A.as_bytes(),
        };
        all().verify(&v3(good, STAMP), request, now_ms)
    };
    assert_eq!(at(STAMP_MS + 300_000), Ok(()));
    assert_eq!(at(STAMP_MS + 300_001), Err(Refused::Stale));
    assert_eq!(at(STAMP_MS - 300_001), Err(Refused::Stale));
    for stamp in ["", "soon", "1764000000001"] {
        assert!(verify(&all(), &v3(good, stamp), "POST", U, BODY_A).is_err());
    }
    let v1 = "ac03b4d5c800dbe85e7530c0910e4096ead5489c685f72220422058d2ea8086b";
    let both = headers(&[
        ("x-hubspot-signature-v3", "AAAA"),
        ("x-hubspot-request-timestamp", STAMP),
        ("x-hubspot-signature", v1),
        ("x-hubspot-signature-version", "v1"),
    ]);
    assert_eq!(verify(&all(), &both, "POST", U, BODY_A), Err(Refused::Wrong));
    let only_v1 = verifier(SECRET, &[SignatureForm::V1]);
    assert_eq!(verify(&only_v1, &both, "POST", U, BODY_A), Ok(()));
    assert_eq!(
        verify(&only_v1, &v3(good, STAMP), "POST", U, BODY_A),
        Err(Refused::Missing)
    );
}

#[test]
fn hubspots_published_examples() {
    let by = verifier(
        "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
        &[SignatureForm::V3, SignatureForm::V2, SignatureForm::V1],
    );
    let uri = "https://www.example.com/webhook_uri";
    let v1_body = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]"#;
    let v1 = "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de";
    assert_eq!(verify(&by, &old(v1, "v1"), "POST", uri, v1_body), Ok(()));
    let v2_get = "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e";
    assert_eq!(verify(&by, &old(v2_get, "v2"), "GET", uri, ""), Ok(()));
    let v2_post = "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900";
    assert_eq!(
        verify(
            &by,
            &old(v2_post, "v2"),
            "POST",
            uri,
            r#"{"example_field":"example_value"}"#
        ),
        Ok(())
    );
    let headers = v3("K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=", "1693657560000");
    let body = "{'example_field':'example_value'}";
    let request = Signed {
        method: "POST",
        uris: &[uri.to_owned()],
        body: body.as_bytes(),
    };
    assert_eq!(by.verify(&headers, request, 1_693_657_560_000), Ok(()));
}
