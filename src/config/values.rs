//! The kinds of value that settings have, each with the words for what it allows.

use std::{
    fmt::{self, Display},
    marker::PhantomData,
    time::Duration,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, DeserializeOwned, IntoDeserializer as _, SeqAccess, Unexpected, Visitor,
        value::SeqAccessDeserializer,
    },
};

use crate::{
    machine::Dialect,
    rpc::convert::{DialectPolicy, StopReply},
    runtime::cgroup,
};

/// A length of time, written `5s`, `100ms`, `1h 30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(pub Duration);

/// The longest time that can be set. Clocks and deadlines have room for it many times over.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Time {
    fn parse<E: de::Error>(text: &str, expected: &dyn de::Expected) -> Result<Self, E> {
        let wrong = |expected| E::invalid_value(Unexpected::Str(text), expected);
        let time = humantime::parse_duration(text).map_err(|_| wrong(expected))?;
        if time > LONGEST { Err(wrong(&"a time of at most 100 years")) } else { Ok(Self(time)) }
    }
}

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as \"5s\", \"100ms\" or \"10m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                Time::parse(text, &self)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Time, E> {
                match number {
                    0 => Ok(Time(Duration::ZERO)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
                match number {
                    0 => Ok(Time(Duration::ZERO)),
                    _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A time, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Optionally(pub Option<Time>);

impl Serialize for Optionally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_str("off"),
            Some(time) => time.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Optionally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrOff;
        impl Visitor<'_> for OrOff {
            type Value = Optionally;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\", or a time with its unit, such as \"30s\" or \"10m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Optionally, E> {
                if text == "off" {
                    return Ok(Optionally(None));
                }
                Time::parse(text, &self).map(|time| Optionally(Some(time)))
            }
        }
        deserializer.deserialize_any(OrOff)
    }
}

/// A value that the operator set, or `auto`: the agent finds out by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Auto<T> {
    /// As the setting's description says.
    #[default]
    Auto,
    /// Exactly this.
    Set(T),
}

impl<T> Auto<T> {
    /// What the operator set.
    pub fn set(&self) -> Option<&T> {
        match self {
            Self::Auto => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OrAuto<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for OrAuto<T> {
            type Value = Auto<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", or a text or a list of texts in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Auto<T>, E> {
                match text {
                    "auto" => Ok(Auto::Auto),
                    text => T::deserialize(text.into_deserializer()).map(Auto::Set),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Auto<T>, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(list)).map(Auto::Set)
            }
        }
        deserializer.deserialize_any(OrAuto(PhantomData))
    }
}

/// Whether abandoned workers are ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbandonedPolicySetting {
    /// As is certain or not that the controller restarted; as `keep` where Arroyo's `job-controller`
    /// is `worker`.
    #[default]
    Auto,
    /// Always, and at once.
    End,
    /// Never.
    Keep,
}

/// How a forced stop that is done is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReplySetting {
    /// With the error NOT_FOUND, which is what a stock controller believes.
    #[default]
    Stock,
    /// With its status.
    Status,
}

impl From<StopReplySetting> for StopReply {
    fn from(setting: StopReplySetting) -> Self {
        match setting {
            StopReplySetting::Stock => StopReply::Stock,
            StopReplySetting::Status => StopReply::Status,
        }
    }
}

/// Whether each worker has a cgroup of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupSetting {
    /// Where a writable cgroup v2 is delegated to the agent.
    #[default]
    Auto,
    /// Or the agent does not start.
    Required,
    /// Never.
    Off,
}

impl From<CgroupSetting> for cgroup::Mode {
    fn from(setting: CgroupSetting) -> Self {
        match setting {
            CgroupSetting::Auto => Self::Auto,
            CgroupSetting::Required => Self::Required,
            CgroupSetting::Off => Self::Off,
        }
    }
}

/// In which dialect ends are reported: `auto`, `0.15` or `0.16`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DialectSetting(pub DialectPolicy);

impl Serialize for DialectSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            DialectPolicy::PerWorker => "auto",
            DialectPolicy::Always(Dialect::V0_15) => "0.15",
            DialectPolicy::Always(Dialect::V0_16) => "0.16",
        })
    }
}

impl<'de> Deserialize<'de> for DialectSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = DialectSetting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", \"0.15\" or \"0.16\"")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<DialectSetting, E> {
                Ok(DialectSetting(match name {
                    "auto" => DialectPolicy::PerWorker,
                    "0.15" => DialectPolicy::Always(Dialect::V0_15),
                    "0.16" => DialectPolicy::Always(Dialect::V0_16),
                    other => return Err(E::invalid_value(Unexpected::Str(other), &self)),
                }))
            }

            /// What a variable or a file without quotes gives.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<DialectSetting, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Name)
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// What is shown in a secret's place.
pub(super) const MASK: &str = "*********";

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// The URL of a gRPC server: scheme and host, and a port if it is not the scheme's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Endpoint(pub String);

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Url;
        impl Visitor<'_> for Url {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a URL with scheme and host, such as \"http://controller:5116\" \
                     or \"https://[fd00::1]:5116\"",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                let good = text.parse::<http::Uri>().ok().filter(|url| {
                    matches!(url.scheme_str(), Some("http" | "https")) && names_a_server(url)
                });
                match good {
                    Some(_) => Ok(Endpoint(text.to_owned())),
                    None => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(Url)
    }
}

/// Whether there is a host, and after it nothing or a port.
fn names_a_server(url: &http::Uri) -> bool {
    let Some(server) = url.authority().filter(|server| !server.host().is_empty()) else {
        return false;
    };
    server.port().is_some() || server.as_str().ends_with(server.host())
}
