//! What an image in a registry is called: `HOST[:PORT]/PATH[:TAG][@DIGEST]`, with Docker's short forms.

use std::fmt;

use crate::descriptor::Digest;

/// Where a name without a host leads.
const DEFAULT_HOST: &str = "docker.io";
/// The registry behind that name.
const DEFAULT_REGISTRY: &str = "registry-1.docker.io";
const DEFAULT_TAG: &str = "latest";
/// Longest name of a repository (OCI distribution spec, pulling manifests).
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// An image, or where one is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Host, and port if there is one.
    pub host: String,
    /// The repository.
    pub path: String,
    tag: Option<String>,
    /// What the image is, whatever its tag says.
    pub digest: Option<Digest>,
}

impl Name {
    /// Reads a name; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
        };
        let (host, rest) = match rest.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DEFAULT_HOST, rest),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((path, tag)) => (path, Some(tag)),
        };
        let path = match host == DEFAULT_HOST && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        let host = match host {
            "index.docker.io" | DEFAULT_REGISTRY => DEFAULT_HOST,
            host => host,
        };
        let sound = is_host(host) && is_path(&path) && tag.is_none_or(is_tag);
        sound.then(|| Self {
            host: host.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The host that is asked.
    #[must_use]
    pub fn registry(&self) -> &str {
        match self.host.as_str() {
            DEFAULT_HOST => DEFAULT_REGISTRY,
            host => host,
        }
    }

    /// The tag; without tag and digest it is `latest`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag.as_deref(),
        }
    }

    /// What a manifest is asked for by: its digest if that is known.
    #[must_use]
    pub fn reference(&self) -> &str {
        match &self.digest {
            Some(digest) => digest.as_str(),
            None => self.tag().unwrap_or(DEFAULT_TAG),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(name),
    };
    port && host
}

fn is_path(text: &str) -> bool {
    let within =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    text.len() <= MAX_PATH
        && text.split('/').map(str::as_bytes).all(|part| {
            edge(part.first()) && edge(part.last()) && part.iter().all(|&byte| within(byte))
        })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_dockers() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("index.docker.io/library/a", "docker.io/library/a:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (&format!("r.test/a@{digest}"), &format!("r.test/a@{digest}")),
            (
                &format!("r.test/a:v1@{digest}"),
                &format!("r.test/a:v1@{digest}"),
            ),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), full);
        }
        assert_eq!(
            Name::parse("busybox").unwrap().registry(),
            "registry-1.docker.io"
        );
    }

    #[test]
    fn what_is_no_name() {
        for text in [
            "",
            "Busybox",
            "a//b",
            "a/../b",
            "r.test/a:",
            "r.test/a: b",
            "r.test:x/a",
            "r.test:0/a",
            "r.test/a@sha256:ab",
            "r.test/a?b=c",
            "user@r.test/a",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
