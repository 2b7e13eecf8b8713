//! The JSON Schema of the configuration, derived from the raw structs. It drives the strict check, the example and the
//! reference, so that none of them can forget a key.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw;

/// The JSON Schema of the configuration (draft 2020-12), for editors and tools.
pub fn schema() -> Value {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12();
    settings
        .into_generator()
        .into_root_schema_for::<raw::Config>()
        .into()
});
