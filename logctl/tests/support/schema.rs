// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks lines of `logctl --json` against docs/logctl.schema.json. The tests in the guest use it, too.

#![allow(dead_code)]

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

const TEXT: &str = include_str!("../../../docs/logctl.schema.json");
const ID: &str = "urn:loggerfs:logctl:1";

/// The definitions of records, each with the type that it is for.
pub struct Schema {
    schemas: Schemas,
    records: Vec<(String, String, SchemaIndex)>,
}

impl Schema {
    /// The schema as it is published allows keys of later versions. Here each key must be described.
    pub fn strict() -> Self {
        let mut schema: Value = serde_json::from_str(TEXT).unwrap();
        let mut kinds = Vec::new();
        for (name, definition) in schema["$defs"].as_object_mut().unwrap() {
            let kind = definition["properties"]["type"]["const"].as_str();
            let kind = kind.map(str::to_owned);
            let is_object = definition["type"] == "object" && name != "record";
            if is_object || kind.is_some() {
                definition["unevaluatedProperties"] = false.into();
            }
            kinds.extend(kind.map(|kind| (name.clone(), kind)));
        }
        // All of them are records.
        assert_eq!(schema["anyOf"].as_array().unwrap().len(), kinds.len());
        let mut compiler = Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource(ID, schema).unwrap();
        let mut schemas = Schemas::new();
        let records = kinds.into_iter().map(|(name, kind)| {
            let place = format!("{ID}#/$defs/{name}");
            let index = compiler.compile(&place, &mut schemas).unwrap();
            (name, kind, index)
        });
        let records = records.collect();
        Self { schemas, records }
    }

    /// The definition that a line matches.
    pub fn check(&self, line: &str) -> Result<&str, String> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        let mut complaint = format!("{line}\nmatches no record");
        for (name, kind, index) in &self.records {
            if value["type"] != **kind {
                continue;
            }
            match self.schemas.validate(&value, *index) {
                Ok(()) => return Ok(name),
                Err(error) => complaint += &format!("\n{error:#}"),
            }
        }
        Err(complaint)
    }

    /// The names of all definitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|(name, ..)| name.as_str())
    }
}
