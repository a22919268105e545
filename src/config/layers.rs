//! The layers, from low to high: see the module above for their order.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use figment::{
    Error, Figment, Metadata, Profile, Provider, Source as Origin,
    providers::{Env, Format as _, Json, Serialized, Toml, Yaml},
    util::nest,
    value::{Dict, Map, Value},
};

use super::{
    ConfigError, Places, Source, Whose,
    error::nearest,
    own::Own,
    stock::{Stock, TLS_SECTIONS, Tls},
};

const OWN_FILE: &str = "arroyo-node.toml";

/// Arroyo's layers.
pub(super) fn stock(places: &Places, notices: &mut Vec<String>) -> Result<Figment, ConfigError> {
    let mut layers = Figment::from(Serialized::defaults(Stock::default()));
    if let Ok(url) = env::var("CONTROLLER_ADDR") {
        notices.push("CONTROLLER_ADDR is an old name: use ARROYO__CONTROLLER_ENDPOINT".into());
        let origin = Origin::Custom("CONTROLLER_ADDR".into());
        layers = layers.merge(Single { origin, key: "controller-endpoint", value: url.into() });
    }
    // What is named without a directory is also looked for in the directories above this one; so
    // does stock.
    if let Some(user) = user_dir() {
        layers = layers
            .admerge(Yaml::file(user.join("config.yaml")))
            .admerge(Toml::file(user.join("config.toml")));
    }
    layers = layers.admerge(Yaml::file("arroyo.yaml")).admerge(Toml::file("arroyo.toml"));
    for path in named_files(places, notices)? {
        layers = match path.extension().and_then(OsStr::to_str) {
            Some("yaml") => layers.admerge(Yaml::file(&path)),
            Some("json") => layers.admerge(Json::file(&path)),
            _ => layers.admerge(Toml::file(&path)),
        };
    }
    Ok(with_flags(layers.admerge(variables("ARROYO__")), places, Whose::Stock))
}

/// The agent's own layers.
pub(super) fn own(places: &Places) -> Result<Figment, ConfigError> {
    let mut layers = Figment::from(Serialized::defaults(Own::default()));
    if let Some(user) = user_dir() {
        layers = layers.merge(Toml::file(user.join(OWN_FILE)));
    }
    layers = layers.merge(Toml::file(OWN_FILE));
    if let Some(path) = &places.node_file {
        must_exist("--node-config", path)?;
        layers = layers.merge(Toml::file_exact(path));
    }
    Ok(with_flags(layers.merge(variables("ARROYO_NODE__")), places, Whose::Own))
}

/// `-c`, then what is in `--config-dir`, by name.
fn named_files(places: &Places, notices: &mut Vec<String>) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    if let Some(path) = &places.file {
        must_exist("-c", path)?;
        files.push(path.clone());
    }
    let Some(dir) = &places.dir else { return Ok(files) };
    match fs::read_dir(dir) {
        // Stock goes on without it, too.
        Err(error) => {
            notices.push(format!("--config-dir {} cannot be read: {error}", dir.display()));
        }
        Ok(entries) => {
            let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            found.retain(|path| {
                path.extension().is_some_and(|extension| extension == "yaml" || extension == "toml")
            });
            found.sort();
            if let Some(own) = found.iter().find(|path| path.ends_with(OWN_FILE)) {
                return Err(ConfigError::OwnFileAmongStock { path: own.clone() });
            }
            files.extend(found);
        }
    }
    Ok(files)
}

fn must_exist(option: &'static str, path: &Path) -> Result<(), ConfigError> {
    let path = path.to_owned();
    match path.metadata() {
        Ok(found) if found.is_file() => Ok(()),
        // A directory, a pipe: it would be passed over without a word.
        Ok(_) => Err(ConfigError::NoFile { option, path }),
        Err(_) => Err(ConfigError::Missing { option, path }),
    }
}

/// `$XDG_CONFIG_HOME/arroyo` or `~/.config/arroyo`.
fn user_dir() -> Option<PathBuf> {
    let xdg = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().map(|home| home.join(".config"));
    xdg.or_else(home).map(|dir| dir.join("arroyo"))
}

fn variables(prefix: &str) -> Env {
    Env::prefixed(prefix).map(|name| name.as_str().replace("__", ".").replace('_', "-").into())
}

fn with_flags(layers: Figment, places: &Places, whose: Whose) -> Figment {
    let flags = places.flags.iter().filter(|flag| flag.of == whose);
    flags.fold(layers, |layers, flag| {
        let origin = Origin::Custom(flag.name.into());
        layers.merge(Single { origin, key: flag.key, value: flag.value.clone() })
    })
}

/// One value, with the place that it comes from.
struct Single {
    origin: Origin,
    key: &'static str,
    value: Value,
}

impl Provider for Single {
    fn metadata(&self) -> Metadata {
        Metadata::from("one setting", self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict = nest(self.key, self.value.clone()).into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// Keys in the node's own sections of Arroyo's configuration that nobody knows: most likely typing
/// errors, and a stock worker refuses them.
pub(super) fn misspelt(layers: &Figment) -> Vec<String> {
    let known = |section: &str| -> Vec<String> {
        let value = match section {
            section if TLS_SECTIONS.contains(&section) => Value::serialize(Tls::default()),
            section => Value::serialize(Stock::default())
                .map(|all| all.find(section).unwrap_or_else(|| Value::from(false))),
        };
        value.ok().and_then(Value::into_dict).unwrap_or_default().into_keys().collect()
    };
    let mut found = Vec::new();
    for section in ["node", "admin", "logging"].into_iter().chain(TLS_SECTIONS) {
        let Some(dict) = layers.find_value(section).ok().and_then(Value::into_dict) else {
            continue;
        };
        let known = known(section);
        for key in dict.keys().filter(|key| !known.contains(key)) {
            let full = format!("{section}.{key}");
            let source = Source::of(layers, &full);
            let meant = nearest(key, known.iter().map(String::as_str))
                .map_or_else(String::new, |name| format!("; did you mean {section}.{name}?"));
            found.push(format!("{source} sets {full}, which Arroyo does not know{meant}"));
        }
    }
    found
}
