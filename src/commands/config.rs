//! `ocihsm config`: prints what belongs in containerd's configuration and in the module policy.
//!
//! `config/` of the repository holds what it prints by default.

use clap::Subcommand;
use serde_json::json;

use super::print;
use crate::commands::Result;
use crate::node::stanza::{ConfigVersion, Stanza};
use crate::node::{self, KEYS, POLICY, modules};
use crate::telemetry::LogTarget;

const AFTER_HELP: &str = "\
Examples:
  ocihsm config containerd > /etc/containerd/conf.d/ocihsm.toml
  ocihsm config policy > /etc/ocicrypt.conf
  ocihsm config keyprovider > ocicrypt_keyprovider.conf";
const CONTAINERD_HELP: &str = "\
Examples:
  ocihsm config containerd > /etc/containerd/conf.d/ocihsm.toml
  ocihsm config containerd --config-version 3 --log journald --key /etc/keys";
const KEYPROVIDER_HELP: &str = "\
Examples:
  ocihsm config keyprovider > ocicrypt_keyprovider.conf
  ocihsm config keyprovider --name hsm --key /etc/keys";
const POLICY_HELP: &str = "\
Examples:
  ocihsm config policy > /etc/ocicrypt.conf";

/// Arguments of `config`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// What to print.
    #[command(subcommand)]
    pub what: What,
}

/// What can be printed.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Print the stream processors for containerd's configuration, a file of its own
    Containerd(ContainerdArgs),
    /// Print the file that makes this program a key provider of other tools (OCICRYPT_KEYPROVIDER_CONFIG)
    Keyprovider(KeyproviderArgs),
    /// Print a module policy (ocicrypt.conf) that allows the PKCS#11 modules found on this machine
    #[command(after_help = POLICY_HELP)]
    Policy,
}

/// Arguments of `config containerd`.
#[derive(clap::Args, Debug)]
#[command(after_help = CONTAINERD_HELP)]
pub struct ContainerdArgs {
    /// Version of the file: 2 works with every containerd, 3 from containerd 2.0 on
    #[arg(long, value_name = "2|3", default_value = "2", value_parser = version)]
    pub config_version: ConfigVersion,
    /// Directory of keys on the node
    #[arg(long = "key", alias = "keys", value_name = "DIR", default_value = KEYS, value_parser = absolute)]
    pub keys: String,
    /// Where this program is installed: an absolute path, or a name that is on containerd's search path
    #[arg(long, value_name = "BIN", default_value = node::program(), value_parser = program)]
    pub path: String,
    /// Module policy: a file, or `internal` for the distributions' module directories
    #[arg(long, value_name = "FILE", default_value = POLICY, value_parser = policy)]
    pub policy: String,
    /// Log each layer: journald, syslog, or a file (its absolute path)
    #[arg(long, value_name = "journald|syslog|FILE", value_parser = log)]
    pub log: Option<String>,
}

/// Arguments of `config keyprovider`.
#[derive(clap::Args, Debug)]
#[command(after_help = KEYPROVIDER_HELP)]
pub struct KeyproviderArgs {
    /// Name of the provider: recipients are provider:NAME:…
    #[arg(long, value_name = "NAME", default_value = "ocihsm")]
    pub name: String,
    /// Directory of keys on the machine
    #[arg(long = "key", alias = "keys", value_name = "DIR", default_value = KEYS, value_parser = absolute)]
    pub keys: String,
    /// Where this program is installed: an absolute path, or a name that is on the search path
    #[arg(long, value_name = "BIN", default_value = node::program(), value_parser = program)]
    pub path: String,
}

impl KeyproviderArgs {
    fn file(&self) -> String {
        let provider = json!({ "cmd": {
            "path": self.path,
            "args": ["keyprovider", "--name", self.name, "--decryption-keys-path", self.keys],
        } });
        let file = json!({ "key-providers": { self.name.clone(): provider } });
        format!("{file:#}")
    }
}

/// Prints it.
///
/// # Errors
/// [`crate::commands::Error::Stream`] when standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let text = match &args.what {
        What::Containerd(args) => args.stanza().to_toml(),
        What::Keyprovider(args) => args.file(),
        What::Policy => policy_of_this_machine(),
    };
    print(&text.trim_end())
}

fn policy_of_this_machine() -> String {
    let installed = modules::installed();
    if installed.iter().all(|module| module.unwanted.is_some()) {
        // Standard output is a file by now, which nobody looks at.
        tracing::warn!(
            hint = "install the module first, or add it to module-directories and allowed-module-paths",
            "no PKCS#11 module was found on this machine, so this policy allows none"
        );
    }
    modules::policy(&installed)
}

impl ContainerdArgs {
    fn stanza(&self) -> Stanza {
        Stanza {
            version: self.config_version,
            program: self.path.clone(),
            keys: self.keys.clone(),
            policy: self.policy.clone(),
            log: self.log.clone(),
        }
    }
}

fn version(text: &str) -> Result<ConfigVersion, String> {
    match text {
        "2" => Ok(ConfigVersion::Two),
        "3" => Ok(ConfigVersion::Three),
        _ => Err("expected 2 or 3".to_owned()),
    }
}

/// containerd's current directory is no place to start from.
fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("expected an absolute path".to_owned())
    }
}

fn program(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && !text.contains('/');
    match is_name || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err("expected an absolute path, or a name without a `/`".to_owned()),
    }
}

fn log(text: &str) -> Result<String, &'static str> {
    text.parse::<LogTarget>().map(|_| text.to_owned())
}

fn policy(text: &str) -> Result<String, String> {
    match text {
        "internal" => Ok(text.to_owned()),
        _ => absolute(text),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn printed(arguments: &[&str]) -> String {
        let line = Line::try_parse_from([&["config", "containerd"], arguments].concat()).unwrap();
        match line.args.what {
            What::Containerd(args) => args.stanza().to_toml(),
            _ => unreachable!("the arguments ask for containerd's configuration"),
        }
    }

    #[test]
    fn files_of_the_repository_are_what_is_printed() {
        assert_eq!(
            printed(&[]),
            include_str!("../../config/containerd-v2.toml")
        );
        assert_eq!(
            printed(&["--config-version", "3"]),
            include_str!("../../config/containerd-v3.toml")
        );
    }

    #[test]
    fn what_containerd_would_not_find_is_refused() {
        let parses = |argument, value| {
            Line::try_parse_from(["config", "containerd", argument, value]).is_ok()
        };
        for (argument, value, expected) in [
            ("--keys", "keys", false),
            ("--policy", "keys", false),
            ("--path", "bin/ocihsm", false),
            ("--path", "./ocihsm", false),
            ("--path", "", false),
            ("--path", "ocihsm", true),
            ("--path", "/opt/ocihsm", true),
            ("--log", "journal", false),
            ("--log", "journald", true),
            ("--log", "/var/log/ocihsm.log", true),
        ] {
            assert_eq!(parses(argument, value), expected, "{argument} {value}");
        }
    }
}
