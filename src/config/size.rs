//! A number of bytes, or `off`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};

/// A number of bytes, written `64MiB`, `512KiB` or `1GiB`; or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Size(pub Option<u64>);

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("off") };
        let unit = UNITS.iter().find(|(_, unit)| bytes % unit == 0);
        let (name, unit) = unit.unwrap_or(&("KiB", 1 << 10));
        write!(f, "{}{name}", bytes / unit)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"off\", or a size with its unit, such as \"512KiB\", \"64MiB\" or \"1GiB\"",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                read(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

fn read(text: &str) -> Option<Size> {
    if text == "off" {
        return Some(Size(None));
    }
    let (name, unit) = UNITS.iter().find(|(name, _)| text.ends_with(name))?;
    let number = text.strip_suffix(name)?.trim_end().parse::<u64>().ok()?;
    Some(Size(Some(number.checked_mul(*unit)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_written() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1536KiB", 1536 << 10), ("2GiB", 2 << 30)] {
            assert_eq!(read(text), Some(Size(Some(bytes))));
            assert_eq!(Size(Some(bytes)).to_string(), text);
        }
        assert_eq!(read("1 MiB"), read("1024KiB"));
        assert_eq!((read("off"), Size(None).to_string()), (Some(Size(None)), "off".to_owned()));
        for nonsense in ["", "64", "MiB", "-1MiB", "1.5GiB", "64MB", "18446744073709551615GiB"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
