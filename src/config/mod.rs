//! The settings of an agent, and where each comes from.
//!
//! ```text
//!            Arroyo's (stock.rs)                  the agent's own (own.rs)
//!            ───────────────────                  ────────────────────────
//!  low       defaults                             defaults
//!   │        ~/.config/arroyo/config.{yaml,toml}  ~/.config/arroyo/arroyo-node.toml
//!   │        ./arroyo.{yaml,toml}                 ./arroyo-node.toml
//!   │        -c FILE                              --node-config FILE
//!   │        *.{yaml,toml} in --config-dir
//!   ▼        ARROYO__*                            ARROYO_NODE__*
//!  high      flags of `node`                      flags of `node`
//! ```
//!
//! The left column is what stock `arroyo node` reads, in its order, so that the same files and
//! variables mean the same. Stock's workers read it too, and refuse what they do not know; so what
//! only this agent knows is in the right column, which never reaches a worker.
//!
//! Files in Arroyo's places are shared with other services, whose keys are passed over. Everything
//! in the right column is the agent's: an unknown key there is an error.

mod error;
mod layers;
pub mod own;
mod render;
mod shared;
pub mod size;
mod source;
pub mod stock;
pub mod values;

use std::{collections::BTreeMap, path::PathBuf};

use figment::{Figment, value::Value};
use serde::de::DeserializeOwned;

pub use error::ConfigError;
pub use source::Source;

use own::Own;
use stock::Stock;

/// Where to look for settings, besides the usual places and the environment.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `-c FILE`
    pub file: Option<PathBuf>,
    /// `--config-dir DIR`
    pub dir: Option<PathBuf>,
    /// `--node-config FILE`
    pub node_file: Option<PathBuf>,
    /// Settings of the command line.
    pub flags: Vec<Flag>,
}

/// A setting of the command line.
#[derive(Clone, PartialEq, Debug)]
pub struct Flag {
    /// As it is typed.
    pub name: &'static str,
    /// Which key it sets.
    pub key: &'static str,
    /// Whose key that is.
    pub of: Whose,
    /// To what.
    pub value: Value,
}

/// Whose a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Arroyo's.
    Stock,
    /// The agent's own.
    Own,
}

/// The settings in effect.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Those of Arroyo.
    pub stock: Stock,
    /// The agent's own.
    pub own: Own,
    /// What a person should know about them.
    pub notices: Vec<String>,
    sources: BTreeMap<String, Source>,
}

/// Reads everything.
///
/// # Errors
/// A file that was named is missing, a file cannot be read, or a setting makes no sense. The text
/// names the file or variable, the key, its value and what is allowed.
pub fn load(places: &Places) -> Result<Loaded, ConfigError> {
    let mut notices = Vec::new();
    let stock_layers = layers::stock(places, &mut notices)?;
    let own_layers = layers::own(places)?;
    let stock: Stock = extract(&stock_layers, Whose::Stock)?;
    let own: Own = extract(&own_layers, Whose::Own)?;
    if let Some(error) = shared::tls_that_may_be_meant(&stock_layers) {
        return Err(error);
    }
    if let Some((key, must)) = own.contradiction() {
        return Err(error::contradiction(&own_layers, key, must));
    }
    notices.extend(layers::misspelt(&stock_layers));
    notices.extend(shared::notices(&stock, &stock_layers));
    notices.extend(own.notices());
    let mut sources = source::of_all(&stock_layers);
    sources.extend(source::of_all(&own_layers));
    Ok(Loaded { stock, own, notices, sources })
}

fn extract<T: DeserializeOwned>(layers: &Figment, whose: Whose) -> Result<T, ConfigError> {
    layers.extract().map_err(|problem| error::explain(layers, &problem, whose))
}

impl Loaded {
    /// Where the value of this key comes from.
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }
}
