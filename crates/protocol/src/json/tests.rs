use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer {
    plan_id: Uuid,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    count: i32,
    inner: Option<Inner>,
    #[serde(default)]
    variables: BTreeMap<String, Inner>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Inner {
    value: String,
    is_secret: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    #[default]
    None,
    InProgress,
    #[serde(other)]
    Unknown,
}

const PLAN: &str = "8f14e45f-ceea-4672-a5d1-0123456789ab";

#[test]
fn fields_match_in_any_case_and_map_keys_stay() {
    let document = format!(
        r#"{{"PlanId":"{PLAN}","NAMES":["a"],"Inner":{{"VALUE":"x","IsSecret":true,"Kind":"inprogress"}},
            "Variables":{{"Build.Reason":{{"Value":"y"}},"value":{{}}}},"extra":[1,{{}}]}}"#
    );
    let outer: Outer = from_str(&document).unwrap();
    assert_eq!(outer.plan_id.to_string(), PLAN);
    assert_eq!(outer.names, ["a"]);
    assert_eq!(outer.inner, Some(Inner { value: "x".into(), is_secret: true, kind: Kind::InProgress }));
    assert_eq!(outer.variables.keys().collect::<Vec<_>>(), ["Build.Reason", "value"]);
    assert_eq!(outer.variables["Build.Reason"].value, "y");
}

#[test]
fn null_counts_as_absent() {
    let document = format!(
        r#"{{"planId":"{PLAN}","names":null,"count":null,"inner":null,"variables":{{"a":null,"b":{{"value":null,"kind":null}}}}}}"#
    );
    let outer: Outer = from_str(&document).unwrap();
    assert_eq!(outer.names, Vec::<String>::new());
    assert_eq!(outer.inner, None);
    assert_eq!(outer.variables["a"], Inner::default());
    assert_eq!(outer.variables["b"], Inner::default());
    let map: BTreeMap<String, String> = from_str(r#"{"PATH":null}"#).unwrap();
    assert_eq!(map["PATH"], "");
}

#[test]
fn last_of_two_equal_fields_wins() {
    let inner: Inner = from_str(r#"{"value":"a","Value":"b","value":null}"#).unwrap();
    assert_eq!(inner.value, "b");
}

#[test]
fn quoted_scalars_convert_both_ways() {
    let inner: Inner = from_str(r#"{"value":12,"isSecret":"True"}"#).unwrap();
    assert_eq!((inner.value.as_str(), inner.is_secret), ("12", true));
    assert_eq!(from_str::<i64>("\"-5\"").unwrap(), -5);
    assert_eq!(from_str::<u8>("5.0").unwrap(), 5);
    assert_eq!(from_str::<f64>("\"1.5\"").unwrap(), 1.5);
    assert!(from_str::<u8>("300").is_err());
    assert!(from_str::<u8>("\"x\"").is_err());
    assert!(from_str::<u8>("1.5").is_err());
}

#[test]
fn unknown_enum_values_reach_the_catch_all() {
    assert_eq!(from_str::<Kind>("\"somethingNew\"").unwrap(), Kind::Unknown);
    assert_eq!(from_str::<Kind>("\"INPROGRESS\"").unwrap(), Kind::InProgress);
}

#[test]
fn byte_order_mark_is_skipped() {
    assert_eq!(from_slice::<Vec<u8>>(b"\xef\xbb\xbf[1,2]").unwrap(), [1, 2]);
    assert_eq!(from_str::<Vec<u8>>("\u{feff}[]").unwrap(), [0u8; 0]);
}

#[test]
fn errors_name_the_path_and_hide_the_value() {
    let document = format!(r#"{{"planId":"{PLAN}","variables":{{"a":{{}},"b":{{"isSecret":"hunter2"}}}}}}"#);
    let error = from_str::<Outer>(&document).unwrap_err();
    assert_eq!(error.to_string(), "variables.b.isSecret: expected a boolean, found a string");
    let error = from_str::<Vec<Outer>>(r#"[{"planId":"hunter2"}]"#).unwrap_err();
    assert!(error.to_string().starts_with("[0].planId: "), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = from_str::<Outer>("{}").unwrap_err();
    assert_eq!(error.to_string(), "missing field `planId`");
    let error = from_str::<Outer>("[]").unwrap_err();
    assert_eq!(error.to_string(), "expected an object, found a list");
}

#[test]
fn cut_short_is_told_from_broken() {
    let cut = from_str::<Outer>(r#"{"planId":"#).unwrap_err();
    assert!(cut.is_truncated());
    assert_eq!(cut.to_string(), "the document is cut short at line 1 column 10");
    let broken = from_str::<Outer>("<html>").unwrap_err();
    assert!(!broken.is_truncated());
    assert!(from_str::<Vec<u8>>("[1] x").is_err());
    assert!(from_str::<Outer>("").unwrap_err().is_truncated());
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let deep = "[".repeat(100_000);
    assert!(from_str::<serde_json::Value>(&deep).is_err());
    let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert!(matches!(from_str::<serde::de::IgnoredAny>(&wide), Err(Error::TooManyValues)));
}

#[test]
fn lists_are_wrapped() {
    let list: ListOf<i32> = vec![1, 2].into();
    assert_eq!(to_string(&list).unwrap(), r#"{"count":2,"value":[1,2]}"#);
    let list: ListOf<i32> = from_str(r#"{"Count":7,"Value":[1]}"#).unwrap();
    assert_eq!(list.value, [1]);
    assert!(from_str::<ListOf<i32>>("[1]").is_err());
    assert_eq!(from_str::<ListOf<i32>>(r#"{"count":0,"value":null}"#).unwrap().value, [0i32; 0]);
}

#[test]
fn properties_carry_their_type() {
    let text = r#"{"ServerUrl":{"$type":"System.String","$value":"https://x"}}"#;
    let properties: PropertiesCollection = from_str(text).unwrap();
    assert_eq!(properties.get("serverurl").and_then(Property::as_str), Some("https://x"));
    assert_eq!(to_string(&properties).unwrap(), text);
    let bare: PropertiesCollection = from_str(r#"{"a":"b","n":3}"#).unwrap();
    assert_eq!(bare.get("a").and_then(Property::as_str), Some("b"));
}

#[test]
fn base64_bytes_round_trip() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Bytes {
        #[serde(with = "base64_bytes")]
        body: Vec<u8>,
        #[serde(with = "optional_base64_bytes", default)]
        iv: Option<Vec<u8>>,
    }
    let bytes: Bytes = from_str(r#"{"body":"AQAB","iv":null}"#).unwrap();
    assert_eq!(bytes, Bytes { body: vec![1, 0, 1], iv: None });
    let bytes: Bytes = from_str(r#"{"body":"/w","iv":"AA=="}"#).unwrap();
    assert_eq!(bytes, Bytes { body: vec![255], iv: Some(vec![0]) });
    assert_eq!(to_string(&bytes).unwrap(), r#"{"body":"/w==","iv":"AA=="}"#);
    let error = from_str::<Bytes>(r#"{"body":"§hunter2"}"#).unwrap_err();
    assert_eq!(error.to_string(), "body: expected a base64 string, found another text");
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = from_slice::<Outer>(&bytes);
    }

    #[test]
    fn any_case_of_a_field_matches(flags in proptest::collection::vec(any::<bool>(), 8)) {
        let name: String = "isSecret"
            .chars()
            .zip(flags)
            .map(|(letter, upper)| if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() })
            .collect();
        let document = format!("{{\"{name}\":true}}");
        prop_assert!(from_str::<Inner>(&document).unwrap().is_secret);
    }
}
