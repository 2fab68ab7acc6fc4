//! Where a service is: `host:port`, or the path of a socket, as gRPC writes its targets.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::escape::escaped;

/// The port of a target that names none.
const PORT: u16 = 443;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and its port.
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads a target: `host:port`, `dns:///host:port`, `passthrough:///host:port`, `unix:///path` or `unix:path`.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        if let Some(path) = target.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let target = ["dns:", "passthrough:"]
            .iter()
            .find_map(|scheme| target.strip_prefix(scheme))
            .map_or(target, |rest| rest.strip_prefix("///").unwrap_or(rest));
        let (host, port) = match target.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                match rest {
                    "" => (host, None),
                    rest => (host, Some(rest.strip_prefix(':')?)),
                }
            }
            None => match target.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (target, None),
            },
        };
        let is_v6 = host.parse::<Ipv6Addr>().is_ok();
        let is_name = |host: &str| {
            let mut chars = host.chars();
            chars.all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_'))
        };
        let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
        // A target without a host is this machine.
        let host = if host.is_empty() { "localhost" } else { host };
        (is_v6 || is_name(host)).then(|| Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    /// What a request says that it is for.
    pub(super) fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { .. } => self.to_string(),
        }
    }

    /// Whom the certificate has to name, where nothing else is said.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp { host, .. } => host,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => f.write_str(&escaped(&path.display().to_string())),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_grpc_writes_them() {
        for (target, shown) in [
            ("localhost:50000", "localhost:50000"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:2", "[::1]:2"),
            ("[::1]", "[::1]:443"),
            ("host", "host:443"),
            (":50000", "localhost:50000"),
            ("dns:///host:3", "host:3"),
            ("dns:host:3", "host:3"),
            ("passthrough:///host:4", "host:4"),
            ("unix:///run/x.sock", "/run/x.sock"),
            ("unix:/run/x.sock", "/run/x.sock"),
            ("unix:x.sock", "x.sock"),
        ] {
            let address = Address::parse(target).unwrap();
            assert_eq!(address.to_string(), shown, "{target}");
        }
        for target in [
            "unix:",
            "unix://",
            "host:",
            "host:65536",
            "host:x",
            "[::1:2",
            "[x]:2",
            "::1:x",
            "a b:1",
            "http://host:1",
            "host/path:1",
            "user@host:1",
            "dns://8.8.8.8/host:1",
        ] {
            assert_eq!(Address::parse(target), None, "{target}");
        }
    }
}
