//! The stream processors for containerd's configuration: one section for each media type that a layer can have.
//!
//! Writes the text alone. What an administrator wrote is read by `containerd`.

use std::fmt::Write as _;

use super::PROVIDERS;

/// Version of containerd's configuration format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigVersion {
    /// Of containerd 1.x. Later versions read it as well.
    Two,
    /// Of containerd 2.x. A containerd 1.x that meets it does not start.
    Three,
}

/// What stands in every section.
#[derive(Clone, Debug)]
pub struct Stanza {
    /// Version of the file.
    pub version: ConfigVersion,
    /// Our program, a path or a name on containerd's search path.
    pub program: String,
    /// Directory of key files.
    pub keys: String,
    /// `OCICRYPT_CONFIG`: a module policy, or `internal`.
    pub policy: String,
    /// `OCIHSM_LOG`, if layers are to be logged.
    pub log: Option<String>,
}

/// One section: what it is called, and which kind of layer it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Key of the section below `stream_processors`.
    pub id: &'static str,
    /// Media type of the plain layer; the encrypted one ends in `+encrypted`.
    pub returns: &'static str,
}

/// Every kind of layer that the format encrypts.
///
/// The first two bear the ids of containerd's built-in sections and so replace them. With another id there would
/// be two sections for one media type, and which of them containerd takes changes from start to start. They are
/// also the only ones to which a client sends a payload. The others continue that scheme, so that a containerd
/// which one day ships them is overridden as well.
pub const PROCESSORS: [Processor; 7] = [
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.tar",
        returns: "application/vnd.oci.image.layer.v1.tar",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.tar.gzip",
        returns: "application/vnd.oci.image.layer.v1.tar+gzip",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.tar.zstd",
        returns: "application/vnd.oci.image.layer.v1.tar+zstd",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.nondistributable.tar",
        returns: "application/vnd.oci.image.layer.nondistributable.v1.tar",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.nondistributable.tar.gzip",
        returns: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.nondistributable.tar.zstd",
        returns: "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    },
    Processor {
        id: "io.containerd.ocicrypt.decoder.v1.wasm",
        returns: "application/vnd.wasm.content.layer.v1+wasm",
    },
];

impl Processor {
    /// Media type of the encrypted layer.
    #[must_use]
    pub fn accepts(&self) -> String {
        format!("{}+encrypted", self.returns)
    }
}

impl Stanza {
    /// The whole file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (number, who) = match self.version {
            ConfigVersion::Two => (2, "Every containerd from 1.6 on reads it."),
            ConfigVersion::Three => (
                3,
                "For containerd 2.0 and later: containerd 1.x does not start with it.",
            ),
        };
        let mut environment = vec![
            format!("OCICRYPT_CONFIG={}", self.policy),
            format!("OCICRYPT_KEYPROVIDER_CONFIG={PROVIDERS}"),
        ];
        environment.extend(self.log.as_ref().map(|log| format!("OCIHSM_LOG={log}")));
        let mut text = format!(
            "# Lets containerd open encrypted image layers with ocihsm. Printed by `ocihsm config containerd`.\n\
             # {who}\n\
             #\n\
             # Save it as /etc/containerd/conf.d/ocihsm.toml, have /etc/containerd/config.toml say\n\
             #   imports = [\"/etc/containerd/conf.d/*.toml\"]\n\
             # above its first section, and restart containerd. `ocihsm doctor` checks the result.\n\
             \n\
             version = {number}\n"
        );
        for processor in PROCESSORS {
            if processor.returns.contains("wasm") {
                text.push_str(
                    "\n# containerd unpacks no Wasm layer by itself; this is for what has it do so all the same.",
                );
            }
            let _ = write!(
                text,
                "\n[stream_processors.{}]\n  accepts = [{}]\n  returns = {}\n  path = {}\n  args = {}\n  env = {}\n",
                quoted(processor.id),
                quoted(&processor.accepts()),
                quoted(processor.returns),
                quoted(&self.program),
                list(&["decode", "--decryption-keys-path", &self.keys]),
                list(&environment),
            );
        }
        text
    }
}

fn list(items: &[impl AsRef<str>]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A basic string (TOML 1.0).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            _ if char.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(char));
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_stay_one_string() {
        let stanza = Stanza {
            version: ConfigVersion::Two,
            program: "/a \"b\"\\".to_owned(),
            keys: "/k\n[x]".to_owned(),
            policy: "internal".to_owned(),
            log: Some("journald".to_owned()),
        };
        let table: toml::Table = stanza.to_toml().parse().unwrap();
        let sections = table["stream_processors"].as_table().unwrap();
        assert_eq!(sections.len(), PROCESSORS.len());
        for processor in PROCESSORS {
            let section = &sections[processor.id];
            assert_eq!(section["path"].as_str(), Some("/a \"b\"\\"));
            assert_eq!(section["args"][2].as_str(), Some("/k\n[x]"));
            assert_eq!(section["env"][2].as_str(), Some("OCIHSM_LOG=journald"));
            assert_eq!(section["returns"].as_str(), Some(processor.returns));
            assert_eq!(
                section["accepts"][0].as_str(),
                Some(format!("{}+encrypted", processor.returns).as_str())
            );
        }
    }
}
