// SPDX-License-Identifier: MIT OR Apache-2.0

//! `schema`: the description of the output of `--json`.

use serde_json::Value;

use crate::error::Error;
use crate::json::JsonObject;
use crate::output::Output;

/// The JSON Schema of all records.
pub const SCHEMA: &str = include_str!("../../../docs/logctl.schema.json");

/// Prints it as it is, or within a record.
pub fn run(output: &mut Output<'_>) -> Result<(), Error> {
    if !output.json {
        return output.content(SCHEMA.as_bytes());
    }
    let schema: Value = serde_json::from_str(SCHEMA).map_err(|e| Error::Output(e.into()))?;
    let mut object = JsonObject::without_path("schema");
    object.put("schema", schema);
    output.object(&object.into_value())
}
