//! Names of things that each process has in its own configuration. Messages carry these, never what they
//! stand for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not a name of something configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} is not a name: 1 to 127 letters, digits, '-', '_' and '.', starting with a letter or digit"
)]
pub struct ConfiguredNameError {
    shown: String,
}

/// The form that all configured names share. It is safe as a file name and as the value of a metric's label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfiguredName(Box<str>);

impl FromStr for ConfiguredName {
    type Err = ConfiguredNameError;

    fn from_str(text: &str) -> Result<Self, ConfiguredNameError> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if starts_well && text.len() <= 127 && text.bytes().all(fine) {
            Ok(Self(text.into()))
        } else {
            Err(ConfiguredNameError { shown: text.chars().take(130).collect() })
        }
    }
}

impl TryFrom<String> for ConfiguredName {
    type Error = ConfiguredNameError;

    fn try_from(text: String) -> Result<Self, ConfiguredNameError> {
        text.parse()
    }
}

impl From<ConfiguredName> for String {
    fn from(name: ConfiguredName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for ConfiguredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! configured {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(ConfiguredName);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0.0
            }
        }

        impl FromStr for $name {
            type Err = ConfiguredNameError;

            fn from_str(text: &str) -> Result<Self, ConfiguredNameError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

configured!(RegistryName, "The name of a registry, which the configuration maps to a URL and credentials.");
configured!(SecretName, "The name of a secret, such as the SAS token of a container.");
configured!(PipelineName, "The name of an import pipeline.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in ["", "..", ".", "a/b", "../a", "a b", "-a", "a\n", &"a".repeat(128)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
        assert_eq!("source-sas.v2".parse::<SecretName>().unwrap().as_str(), "source-sas.v2");
    }
}
