//! One key, tried for real: its module loaded, its token found, a login, and two wrapped keys opened.

use std::fs;

use super::findings::Findings;
use super::kind;
use super::mend::{MEND_FAILED, mend_refused, mend_rejected, mend_unanswered};
use super::setup::Setup;
use crate::commands::trial::{self, Tried};
use crate::commands::unwrapping;
use crate::hsm::{self, Client, HsmSettings, Probe};
use crate::keys::TokenKey;
use crate::keys::public::{EcPublicKey, PublicKey};
use crate::node::environment;
use crate::node::section::ADDED_LIBRARIES;
use crate::operation::OaepHash;
use crate::settings;

/// Where the dynamic loader looks for the libraries of a module.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

const MISMATCH: &str =
    "suspect the module: the private key does not do what its public half promises";

/// What tries keys one after another, and leaves a token alone that refused a login.
pub(super) struct Trial<'a> {
    settings: &'a HsmSettings,
    refused: Vec<TokenKey>,
}

/// One key of one decoder.
struct Attempt<'a> {
    settings: HsmSettings,
    setup: &'a Setup,
    key: &'a TokenKey,
}

impl<'a> Trial<'a> {
    pub(super) fn new(settings: &'a HsmSettings) -> Self {
        Self {
            settings,
            refused: Vec::new(),
        }
    }

    /// The key whose login was refused by what may be this one's token.
    pub(super) fn refused_by(&self, key: &TokenKey) -> Option<&TokenKey> {
        self.refused
            .iter()
            .find(|other| may_share_token(other, key))
    }

    /// Tries a key as the decoder with this setup would.
    pub(super) fn check(&mut self, findings: &mut Findings, setup: &Setup, key: &TokenKey) {
        let name = &key.file.name;
        if let Some(other) = self.refused_by(key) {
            findings.warn(
                kind::KEY_UNTRIED,
                format!(
                    "{name}: not tried, since a login to what may be the same token was refused"
                ),
                format!("mend {} first", other.file.name),
            );
            return;
        }
        let settings = setup.settings(self.settings);
        if let Some(warning) = settings.warning() {
            findings.fail(
                kind::RUNTIME_DIRECTORY,
                format!("rejected PINs cannot be remembered, so a wrong one costs a try for each layer: {warning}"),
                "name a directory of root's own in OCIHSM_RUNTIME_DIR, in the `env` of the stream processors",
            );
        }
        compare_loader(findings, setup);
        let attempt = Attempt {
            settings,
            setup,
            key,
        };
        match hsm::probe(&attempt.settings, key) {
            Ok(probe) => {
                describe(findings, key, &probe);
                match &probe.public_key {
                    PublicKey::Ec(public) if probe.usage.derive != Some(false) => {
                        attempt.agree(findings, public);
                    }
                    PublicKey::Rsa(_) if probe.usage.decrypt != Some(false) => {
                        attempt.unwrap(findings, &probe);
                    }
                    _ => {}
                }
            }
            Err(error) => {
                if error.is_about_pin() {
                    self.refused.push(key.clone());
                }
                match (
                    error.in_key_file(&key.file.name),
                    setup.named_runtime_dir.as_deref(),
                ) {
                    (error @ hsm::Error::PinRejectedBefore { .. }, Some(directory)) => {
                        let mend = mend_rejected(directory);
                        findings.fail(kind::KEY_FAILED, error.to_string(), mend);
                    }
                    (error @ hsm::Error::PinUnanswered { .. }, Some(directory)) => {
                        let mend = mend_unanswered(directory);
                        findings.fail(kind::KEY_FAILED, error.to_string(), mend);
                    }
                    (error, _) => findings.error(kind::KEY_FAILED, &error, MEND_FAILED),
                }
                attempt.compare_environment(findings);
            }
        }
    }
}

impl Attempt<'_> {
    /// What the module takes from the environment that doctor was started in, and not from the decoder's.
    fn compare_environment(&self, findings: &mut Findings) {
        let (key, decoders) = (self.key, &self.setup.environment);
        for (name, value) in environment::of_module(&key.module, settings::variable) {
            if decoders.contains_key(&name) || key.file.env.contains_key(&name) {
                continue;
            }
            findings.warn(
                kind::KEY_ENVIRONMENT,
                format!(
                    "{}: in this shell the module works with {name}={value}, which the decoder does not know",
                    key.file.name
                ),
                format!("write it in the key file, as `{name}: {value}` below `module:` and `env:`"),
            );
        }
    }

    /// Has the token agree on a secret with a key of our own.
    fn agree(&self, findings: &mut Findings, public: &EcPublicKey) {
        let name = &self.key.file.name;
        let mend = "use a module that does ECDH and gives the secret away, or an RSA key";
        let mut client = Client::new(self.settings.clone());
        match trial::agree(&mut client, self.key, public) {
            None => {}
            Some(Tried::Works(_)) => findings.ok(
                kind::KEY_OPENS,
                format!(
                    "{name}: agrees on secrets (ECDH on {}), which opens what is wrapped to it with JWE",
                    public.curve()
                ),
            ),
            Some(Tried::Wrong) => findings.fail(
                kind::KEY_MISMATCH,
                format!("{name}: the token agrees on another secret than its public half promises"),
                MISMATCH,
            ),
            Some(Tried::Refused(why)) => findings.fail(
                kind::KEY_REFUSED,
                format!("{name}: the token agrees on no secret: it {why}"),
                mend,
            ),
            Some(Tried::Failed(error)) => {
                findings.error(kind::KEY_REFUSED, &error.in_key_file(name), mend);
            }
        }
    }

    /// Wraps a key of no worth to the public half, and has the token unwrap it.
    fn unwrap(&self, findings: &mut Findings, probe: &Probe) {
        let name = &self.key.file.name;
        let mut client = Client::new(self.settings.clone());
        let mut opened = Vec::new();
        for hash in [OaepHash::Sha256, OaepHash::Sha1] {
            let refused = match trial::oaep(&mut client, self.key, &probe.public_key, hash) {
                Tried::Works(how) => {
                    opened.push(format!("OAEP {hash} {how}"));
                    continue;
                }
                Tried::Wrong => {
                    findings.fail(
                        kind::KEY_MISMATCH,
                        format!("{name}: with OAEP {hash} the token gives back something else than was wrapped"),
                        MISMATCH,
                    );
                    continue;
                }
                Tried::Refused(why) => unwrapping::refusal(name, &why).text,
                Tried::Failed(error) if opened.is_empty() => {
                    findings.error(
                        kind::KEY_REFUSED,
                        &error.in_key_file(name),
                        "use an RSA key of 2048 bits or more",
                    );
                    return;
                }
                Tried::Failed(error) => format!("{name}: {error}"),
            };
            findings.fail(
                kind::KEY_REFUSED,
                format!("a key wrapped with OAEP {hash} cannot be opened: {refused}"),
                mend_refused(probe),
            );
        }
        if !opened.is_empty() {
            findings.ok(
                kind::KEY_OPENS,
                format!("{name}: opens what is wrapped to it, {}", opened.join(", ")),
            );
        }
    }
}

/// The dynamic loader looks at its variable as a program starts, so here the one that doctor was started with counts.
fn compare_loader(findings: &mut Findings, setup: &Setup) {
    let ours = settings::variable(LIBRARIES).and_then(|ours| ours.into_string().ok());
    let ours = ours.unwrap_or_default();
    let theirs = setup
        .environment
        .get(LIBRARIES)
        .cloned()
        .unwrap_or_default();
    let added_has_any =
        fs::read_dir(ADDED_LIBRARIES).is_ok_and(|mut entries| entries.next().is_some());
    if searched(&ours, added_has_any) == searched(&theirs, added_has_any) {
        return;
    }
    let value = |value: &str| match value {
        "" => "not set".to_owned(),
        value => format!("{value:?}"),
    };
    findings.warn(
        kind::MODULE_LIBRARIES,
        format!(
            "{LIBRARIES} is {} in this shell and {} for the decoder, so modules may find other libraries there",
            value(&ours),
            value(&theirs)
        ),
        format!("run `{LIBRARIES}={theirs} ocihsm doctor`, after sudo with `env` before it"),
    );
}

/// The directories that matter: not the current one, which is the root for the decoder, and not containerd's own while
/// nothing is in it.
fn searched(value: &str, added_has_any: bool) -> Vec<&str> {
    let directories = value.split(':');
    directories
        .filter(|directory| !directory.is_empty())
        .filter(|directory| added_has_any || *directory != ADDED_LIBRARIES)
        .collect()
}

fn describe(findings: &mut Findings, key: &TokenKey, probe: &Probe) {
    let name = &key.file.name;
    let kind = match &probe.public_key {
        PublicKey::Rsa(key) => format!("RSA-{}", key.bits()),
        PublicKey::Ec(key) => key.curve().to_string(),
    };
    let is_rsa = matches!(probe.public_key, PublicKey::Rsa(_));
    let mechanisms = match (probe.oaep, probe.raw_rsa) {
        _ if !is_rsa && probe.ecdh => "does ECDH",
        _ if !is_rsa => "does no ECDH",
        (true, true) => "decrypts RSA-OAEP and raw RSA",
        (true, false) => "decrypts RSA-OAEP",
        (false, true) => "decrypts raw RSA",
        (false, false) => "decrypts neither RSA-OAEP nor raw RSA",
    };
    findings.ok(
        kind::KEY,
        format!(
            "{name}: {kind} on token {:?} ({} {}, serial {}), logged in, by {}; the token {mechanisms}",
            probe.token,
            probe.manufacturer,
            probe.model,
            probe.serial,
            key.module.display(),
        ),
    );
    if !is_rsa && probe.usage.derive == Some(false) {
        findings.fail(
            kind::KEY_NO_DERIVE,
            format!("{name}: the key may not agree on secrets (CKA_DERIVE is false)"),
            "make a key that may: ocihsm keys generate --type p256",
        );
    }
    if is_rsa && probe.usage.decrypt == Some(false) {
        findings.fail(
            kind::KEY_NO_DECRYPT,
            format!("{name}: the key may not decrypt (CKA_DECRYPT is false)"),
            "make a key that may: ocihsm keys generate",
        );
    }
    if probe.usage.sensitive == Some(false) || probe.usage.extractable == Some(true) {
        findings.warn(
            kind::KEY_EXTRACTABLE,
            format!("{name}: the private key can leave the token (CKA_SENSITIVE is false, or CKA_EXTRACTABLE true)"),
            "make one that cannot: ocihsm keys generate",
        );
    }
    if probe.was_final_try || probe.had_wrong_pin {
        findings.warn(
            kind::TOKEN_WRONG_PIN,
            format!(
                "{:?}: before this login somebody had tried a wrong PIN",
                probe.token
            ),
            "look for another key file, on this node or another, whose PIN is wrong",
        );
    }
}

/// Whether two URIs may mean one token: the same module, and nothing that tells the tokens apart. What else differs in
/// the environment need not lead to another token, and a login too many would lock it.
fn may_share_token(one: &TokenKey, other: &TokenKey) -> bool {
    fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
        one.is_some() && other.is_some() && one != other
    }
    let (a, b) = (&one.file.uri, &other.file.uri);
    one.module == other.module
        && !differ(&a.token, &b.token)
        && !differ(&a.serial, &b.serial)
        && !differ(&a.slot_id, &b.slot_id)
        && !differ(&a.model, &b.model)
        && !differ(&a.manufacturer, &b.manufacturer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::key_file::KeyFile;

    fn key(uri: &str) -> TokenKey {
        let text = format!("pkcs11:\n  uri: pkcs11:{uri};object=o\n");
        TokenKey {
            file: KeyFile::parse("k.yaml", text.as_bytes()).unwrap(),
            module: "/m.so".into(),
        }
    }

    #[test]
    fn only_what_surely_is_another_token_is_tried_after_a_refusal() {
        let shared = |one: &str, other: &str| may_share_token(&key(one), &key(other));
        assert!(shared("token=a", "token=a"));
        assert!(shared("token=a", "slot-id=1"));
        assert!(shared("token=a;serial=1", "token=a"));
        assert!(!shared("token=a", "token=b"));
        assert!(!shared("token=a;serial=1", "token=a;serial=2"));
        let mut elsewhere = key("token=a");
        elsewhere.file.env.insert("A".to_owned(), "b".to_owned());
        assert!(may_share_token(&key("token=a"), &elsewhere));
        let elsewhere = TokenKey {
            module: "/n.so".into(),
            ..key("token=a")
        };
        assert!(!may_share_token(&key("token=a"), &elsewhere));
    }

    #[test]
    fn containerds_own_libraries_count_where_there_are_any() {
        let usual = "/opt/containerd/lib:";
        assert_eq!(searched(usual, false), searched("", false));
        assert_ne!(searched(usual, true), searched("", true));
        assert_ne!(searched(usual, false), searched("/opt/hsm", false));
    }
}
