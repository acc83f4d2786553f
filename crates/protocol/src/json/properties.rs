//! `PropertiesCollection`: named values that carry their .NET type.

use std::collections::BTreeMap;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// One typed value: `{"$type":"System.String","$value":"…"}`. A bare scalar is accepted as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Property {
    /// .NET type name.
    #[serde(rename = "$type")]
    pub type_name: String,
    /// The value: a string, number or boolean; dates and GUIDs are strings.
    #[serde(rename = "$value")]
    pub value: serde_json::Value,
}

impl Property {
    /// The value as text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.value.as_str()
    }
}

impl From<&str> for Property {
    fn from(value: &str) -> Self {
        Property { type_name: "System.String".to_owned(), value: value.into() }
    }
}

impl From<String> for Property {
    fn from(value: String) -> Self {
        Property { type_name: "System.String".to_owned(), value: value.into() }
    }
}

impl From<i32> for Property {
    fn from(value: i32) -> Self {
        Property { type_name: "System.Int32".to_owned(), value: value.into() }
    }
}

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertyVisitor;

        impl PropertyVisitor {
            fn bare(type_name: &str, value: serde_json::Value) -> Property {
                Property { type_name: type_name.to_owned(), value }
            }
        }

        impl<'de> Visitor<'de> for PropertyVisitor {
            type Value = Property;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object with $type and $value, or a scalar")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Property, E> {
                Ok(Self::bare("System.Boolean", value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Property, E> {
                Ok(Self::bare("System.Int64", value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Property, E> {
                Ok(Self::bare("System.Int64", value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Property, E> {
                Ok(Self::bare("System.Double", value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Property, E> {
                Ok(Self::bare("System.String", value.into()))
            }

            fn visit_unit<E>(self) -> Result<Property, E> {
                Ok(Self::bare("System.String", serde_json::Value::Null))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Property, A::Error> {
                let mut property = Self::bare("System.String", serde_json::Value::Null);
                while let Some(name) = access.next_key::<String>()? {
                    if name.eq_ignore_ascii_case("$type") {
                        property.type_name = access.next_value()?;
                    } else if name.eq_ignore_ascii_case("$value") {
                        property.value = access.next_value()?;
                    } else {
                        access.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                Ok(property)
            }
        }

        deserializer.deserialize_any(PropertyVisitor)
    }
}

/// Properties of an agent, a pool and others: `{"Name":{"$type":…,"$value":…}}` (`PropertiesCollection.cs`).
/// Names match in any case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PropertiesCollection(pub BTreeMap<String, Property>);

impl PropertiesCollection {
    /// The property of that name, in any case.
    pub fn get(&self, name: &str) -> Option<&Property> {
        self.0
            .get(name)
            .or_else(|| self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    /// True when there are no properties.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a property.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Property>) {
        self.0.insert(name.into(), value.into());
    }
}
