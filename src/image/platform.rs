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

    /// The one that we run on.
    #[must_use]
    pub fn own() -> Self {
        let this = Self {
            os: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            variant: None,
        };
        Self {
            variant: None,
            ..this.normal()
        }
    }

    /// Whether an image for `other` is meant when this was asked for: without a variant, every one is.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let (wanted, own) = (self.normal(), other.normal());
        wanted.os == own.os
            && wanted.architecture == own.architecture
            && (self.variant.is_none() || wanted.variant == own.variant)
    }

    /// The same platform in the words that containerd uses: `x86_64` is `amd64`, and `arm64` alone is `arm64/v8`.
    fn normal(&self) -> Self {
        let lower = |text: &str| text.to_ascii_lowercase();
        let variant = self
            .variant
            .as_deref()
            .map(lower)
            .filter(|it| !it.is_empty());
        let variant = variant.as_deref();
        let (architecture, variant) = match (lower(&self.architecture).as_str(), variant) {
            ("i386", _) => ("386".to_owned(), None),
            ("x86_64" | "x86-64" | "amd64", variant) => {
                ("amd64".to_owned(), variant.filter(|it| *it != "v1"))
            }
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64".to_owned(), Some("v8")),
            ("aarch64" | "arm64", variant) => ("arm64".to_owned(), variant),
            ("armhf", _) => ("arm".to_owned(), Some("v7")),
            ("armel", _) => ("arm".to_owned(), Some("v6")),
            ("arm", None | Some("7")) => ("arm".to_owned(), Some("v7")),
            ("arm", Some("5")) => ("arm".to_owned(), Some("v5")),
            ("arm", Some("6")) => ("arm".to_owned(), Some("v6")),
            ("arm", Some("8")) => ("arm".to_owned(), Some("v8")),
            (other, variant) => (other.to_owned(), variant),
        };
        let os = match lower(&self.os).as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self {
            os,
            architecture,
            variant: variant.map(str::to_owned),
        }
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
        assert!(!platform("linux/arm64/v9").includes(&platform("linux/arm64")));
        assert!(!platform("linux/arm64").includes(&platform("linux/amd64")));
        assert!(!platform("linux/arm64").includes(&platform("windows/arm64")));
    }

    #[test]
    fn other_words_for_a_platform_are_understood() {
        for (wanted, own) in [
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64/v8"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64", "Linux/x86-64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/arm/7", "linux/armhf"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
        ] {
            assert!(platform(wanted).includes(&platform(own)), "{wanted} {own}");
        }
        assert!(!platform("linux/arm/v6").includes(&platform("linux/arm")));
        assert!(!platform("linux/amd64/v3").includes(&platform("linux/amd64")));
    }

    #[test]
    fn what_is_no_platform() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert_eq!(text.parse::<Platform>(), Err(NotAPlatform), "{text}");
        }
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
    }
}
