//! A platform, `os/architecture[/variant]`: what an index tells its manifests apart by.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// What an image runs on, or what a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, in Go's words.
    pub architecture: String,
    /// `v8`.
    pub variant: Option<String>,
}

/// Text that is no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected os/architecture or os/architecture/variant")]
pub struct NotAPlatform;

impl Platform {
    /// Reads the `platform` of a descriptor, or the same fields of a config.
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        let field = |name| json.get(name)?.as_str().filter(|text| !text.is_empty());
        Some(Self {
            os: field("os")?.to_owned(),
            architecture: field("architecture")?.to_owned(),
            variant: field("variant").map(str::to_owned),
        })
    }

    /// Whether an image for `other` is meant when this was asked for: without a variant, every one is.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl FromStr for Platform {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let parts: Vec<_> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(NotAPlatform),
        };
        if !parts.iter().all(word) {
            return Err(NotAPlatform);
        }
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_platform_without_a_variant_includes_all_variants() {
        assert!(platform("linux/arm64").includes(&platform("linux/arm64/v8")));
        assert!(!platform("linux/arm64/v8").includes(&platform("linux/arm64")));
        assert!(!platform("linux/arm64").includes(&platform("linux/amd64")));
        assert!(!platform("linux/arm64").includes(&platform("windows/arm64")));
    }

    #[test]
    fn what_is_no_platform() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert_eq!(text.parse::<Platform>(), Err(NotAPlatform), "{text}");
        }
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
    }
}
