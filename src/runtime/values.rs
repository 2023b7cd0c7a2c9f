//! The conversion of Rust values to data and back, through JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::machine::json::{self, Style};
use crate::machine::{Data, EntityId, Value, error};

use super::Error;

/// Converts a value to data.
pub(super) fn to_data<T: Serialize>(value: &T) -> Result<Data, Error> {
    encode(&to_value(value)?)
}

/// Converts arguments to data, which is a list. A unit stands for no arguments.
pub(super) fn arguments<T: Serialize>(args: &T) -> Result<Data, Error> {
    match to_value(args)? {
        Value::Null => encode(&Value::list(Vec::new())),
        list @ Value::List(_) => encode(&list),
        other => {
            let kind = crate::machine::format::brief(&other);
            Err(Error::Conversion(format!("arguments are a tuple or another list, and not {kind}")))
        }
    }
}

/// Converts data to a Rust value.
pub(super) fn from_data<T: DeserializeOwned>(data: &Data) -> Result<T, Error> {
    from_value(&data.decode())
}

/// Converts a value of the language to a Rust value.
pub(super) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    let text = json::encode(value, Style::Plain, None)
        .map_err(|fail| Error::Conversion(error::title(&fail.value)))?;
    serde_json::from_str(&text).map_err(|error| {
        let found = crate::machine::format::brief(value);
        Error::Conversion(format!("{found} is no `{}`: {error}", std::any::type_name::<T>()))
    })
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Error> {
    let tree = serde_json::to_value(value).map_err(|error| Error::Conversion(error.to_string()))?;
    json::from_serde(tree).map_err(|error| Error::Conversion(error.to_string()))
}

/// Returns the entity with a name and a key.
pub(super) fn entity<T: Serialize>(name: &str, key: &T) -> Result<EntityId, Error> {
    EntityId::new(name, &to_value(key)?).map_err(|fail| Error::Conversion(error::title(&fail.value)))
}

fn encode(value: &Value) -> Result<Data, Error> {
    Data::encode(value).map_err(|fail| Error::Conversion(error::title(&fail.value)))
}
