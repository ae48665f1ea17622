//! Values of operations: the few shapes that histories need, as JSON and as EDN.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value of an operation. In JSON a keyword is a text that begins with a colon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Not known, or nothing.
    Nil,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Int(i64),
    /// A keyword, without its colon.
    Word(String),
    /// A text that does not begin with a colon.
    Text(String),
    /// Several values.
    List(Vec<Value>),
}

impl Value {
    /// A keyword.
    pub fn word(word: &str) -> Self {
        Self::Word(word.to_owned())
    }

    /// Numbers.
    pub fn ints(ints: impl IntoIterator<Item = i64>) -> Self {
        Self::List(ints.into_iter().map(Self::Int).collect())
    }

    /// The number, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The values, if it is a list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The numbers, if it is a list of numbers alone.
    pub fn int_list(&self) -> Option<Vec<i64>> {
        self.list()?.iter().map(Self::int).collect()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Int(int) => serializer.serialize_i64(*int),
            Self::Word(word) => serializer.serialize_str(&format!(":{word}")),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_seq(list),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        of_json(json).map_err(serde::de::Error::custom)
    }
}

fn of_json(json: serde_json::Value) -> Result<Value, String> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Flag(flag),
        Json::Number(number) => {
            Value::Int(number.as_i64().ok_or_else(|| format!("{number} is no whole number"))?)
        }
        Json::String(text) => match text.strip_prefix(':') {
            Some(word) => Value::Word(word.to_owned()),
            None => Value::Text(text),
        },
        Json::Array(list) => Value::List(list.into_iter().map(of_json).collect::<Result<_, _>>()?),
        Json::Object(_) => return Err("a map is no value of an operation".to_owned()),
    })
}
