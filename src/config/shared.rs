//! What is set where stock workers read it too, and what they make of it: they are stricter than this agent.

use std::net::IpAddr;

use figment::{Figment, value::Value};

use super::{
    ConfigError, Source,
    stock::{Stock, TLS_SECTIONS},
};

/// What a person should know.
pub(super) fn notices(stock: &Stock, layers: &Figment) -> Vec<String> {
    let found = [host_names(stock, layers), level(stock, layers), https(stock, layers)];
    found.into_iter().flatten().collect()
}

/// A section `tls` whose `enabled` nobody has set: with stock an error, and TLS may be meant.
pub(super) fn tls_that_may_be_meant(layers: &Figment) -> Option<ConfigError> {
    TLS_SECTIONS.into_iter().find_map(|section| {
        let switch = format!("{section}.enabled");
        if Source::of(layers, &switch) != Source::Default {
            return None;
        }
        let dict = layers.find_value(section).ok().and_then(Value::into_dict)?;
        let keys = dict.keys().map(|key| format!("{section}.{key}"));
        let mut set = keys.map(|key| (Source::of(layers, &key), key));
        let (source, key) = set.find(|(source, _)| *source != Source::Default)?;
        Some(ConfigError::NoSwitch { source_name: source.to_string(), key, switch })
    })
}

/// This agent takes host names where stock takes only IP addresses.
fn host_names(stock: &Stock, layers: &Figment) -> Vec<String> {
    let addresses = [
        ("node.bind-address", "--bind-address", &stock.node.bind_address),
        ("admin.bind-address", "--admin-address", &stock.admin.bind_address),
    ];
    let named = addresses.into_iter().filter(|(_, _, host)| host.parse::<IpAddr>().is_err());
    let shared = named.map(|(key, flag, host)| (Source::of(layers, key), key, flag, host));
    shared
        .filter(|(source, ..)| !matches!(source, Source::Flag(_)))
        .map(|(source, key, flag, host)| {
            format!(
                "{source} sets {key} to the name {host:?}; a stock worker reads that too and takes \
                 only an IP address: set it with {flag} instead"
            )
        })
        .collect()
}

/// Not every version of Arroyo knows it.
fn level(stock: &Stock, layers: &Figment) -> Vec<String> {
    let source = || Source::of(layers, "logging.min-level");
    let note = |_: &String| {
        format!(
            "{} sets logging.min-level; a stock worker reads that too, and one that does not know it \
             does not start: set RUST_LOG instead",
            source()
        )
    };
    stock.logging.min_level.iter().map(note).collect()
}

/// To this agent the URL says enough.
fn https(stock: &Stock, layers: &Figment) -> Vec<String> {
    let url = stock.controller_url();
    if !url.starts_with("https://") || stock.controller_tls().is_some() {
        return Vec::new();
    }
    let source = Source::of(layers, "controller-endpoint");
    vec![format!(
        "{source} sets controller-endpoint to {url:?}; a stock worker calls it with TLS only if \
         controller.tls.enabled or tls.enabled is true"
    )]
}
