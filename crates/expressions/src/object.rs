//! Objects: keys in the order of their insertion, found in any case.

use std::sync::Arc;

use crate::text;
use crate::value::Value;

/// A mapping of text to values. Keys keep their spelling and order; a key is found whatever its case.
#[derive(Debug, Clone, Default)]
pub struct Object {
    entries: Vec<(Arc<str>, Value)>,
    /// Positions in `entries`, sorted by key without regard to case: a lookup then allocates nothing.
    sorted: Vec<u32>,
}

impl Object {
    /// An empty object.
    pub fn new() -> Object {
        Object::default()
    }

    /// Sets a value. A key that is there already, in whatever case, keeps its place and spelling; its value
    /// goes.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: Value) {
        let key = key.into();
        match self.find(&key) {
            Ok(at) => self.entries[self.sorted[at] as usize].1 = value,
            Err(at) => {
                let position = position(self.entries.len());
                self.sorted.insert(at, position);
                self.entries.push((key, value));
            }
        }
    }

    /// The value of a key, in any case.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.find(key).ok()?;
        Some(&self.entries[self.sorted[at] as usize].1)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// The values in order of insertion.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|position| text::compare(&self.entries[*position as usize].0, key))
    }
}

/// As inserting one after the other, but sorted once: a file may hold hundreds of thousands of keys.
impl<K: Into<Arc<str>>> FromIterator<(K, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(entries: I) -> Object {
        let mut entries: Vec<(Arc<str>, Value)> =
            entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let mut sorted: Vec<u32> = (0..entries.len()).map(position).collect();
        // Stable, so that equal keys stay in order: the first keeps its place, the last gives the value.
        sorted.sort_by(|left, right| text::compare(&entries[*left as usize].0, &entries[*right as usize].0));
        let mut dropped = vec![false; entries.len()];
        sorted.dedup_by(|later, first| {
            let equal = text::equal(&entries[*later as usize].0, &entries[*first as usize].0);
            if equal {
                entries[*first as usize].1 = std::mem::take(&mut entries[*later as usize].1);
                dropped[*later as usize] = true;
            }
            equal
        });
        if sorted.len() < entries.len() {
            let mut places = Vec::with_capacity(entries.len());
            let mut kept = 0;
            for dropped in &dropped {
                places.push(kept);
                kept += u32::from(!dropped);
            }
            sorted.iter_mut().for_each(|at| *at = places[*at as usize]);
            let mut dropped = dropped.into_iter();
            entries.retain(|_| !dropped.next().unwrap_or_default());
        }
        Object { entries, sorted }
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("an object of four billion keys does not fit into memory")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_keep_their_order() {
        let mut object =
            Object::from_iter([("b", Value::from("1")), ("A", Value::from("2")), ("ü", Value::from("3"))]);
        object.insert("B", Value::from("4"));
        assert_eq!(object.len(), 3);
        assert_eq!(object.get("B"), Some(&Value::from("4")));
        assert_eq!(object.get("a"), Some(&Value::from("2")));
        assert_eq!(object.get("Ü"), Some(&Value::from("3")));
        assert_eq!(object.get("c"), None);
        let keys: Vec<&str> = object.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["b", "A", "ü"]);
    }

    proptest! {
        #[test]
        fn collecting_is_inserting_one_after_the_other(keys in prop::collection::vec("[a-cA-Cü]{0,2}", 0..20)) {
            let entries = || keys.iter().zip(0i64..).map(|(key, at)| (key.as_str(), Value::from(at)));
            let mut inserted = Object::new();
            for (key, value) in entries() {
                inserted.insert(key, value);
            }
            let collected: Object = entries().collect();
            prop_assert!(collected.iter().eq(inserted.iter()));
            for key in &keys {
                prop_assert_eq!(collected.get(&key.to_uppercase()), inserted.get(key));
            }
        }
    }
}
