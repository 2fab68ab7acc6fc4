//! What a finding is: an id that scripts can rely on, and the subject that its line begins with.
//!
//! `docs/findings.md` lists them all.

/// What a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Stays as it is from release to release.
    pub(super) id: &'static str,
    /// What it is about.
    pub(super) subject: &'static str,
}

macro_rules! kinds {
    ($($subject:literal: { $($name:ident = $id:literal,)* })*) => {
        $($(pub(super) const $name: Kind = Kind { id: $id, subject: $subject };)*)*

        /// All of them.
        #[cfg(test)]
        const ALL: &[Kind] = &[$($($name,)*)*];
    };
}

kinds! {
    "user": {
        NOT_ROOT = "not-root",
    }
    "containerd": {
        CONFIG = "config",
        CONFIG_ABSENT = "config-absent",
        CONFIG_BROKEN = "config-broken",
        CONFIG_ELSEWHERE = "config-elsewhere",
        CONFIG_GENERATED = "config-generated",
        CONFIG_VERSION = "config-version",
        CONFIG_UNLOADED = "config-unloaded",
        NOT_RUNNING = "not-running",
        NO_DECODER = "no-decoder",
        IMPORT_MISSING = "import-missing",
        IMPORT_UNLISTED = "import-unlisted",
        IMPORT_RELATIVE = "import-relative",
        DROP_IN_UNIMPORTED = "drop-in-unimported",
        PLUGIN_NAME = "plugin-name",
    }
    "stream processor": {
        PROCESSOR = "processor",
        PROCESSOR_MISSING = "processor-missing",
        PROCESSOR_REPEATED = "processor-repeated",
        PROCESSOR_ACCEPTS = "processor-accepts",
        PROCESSOR_RETURNS = "processor-returns",
        PROCESSOR_ARGUMENTS = "processor-arguments",
        PROCESSOR_KEYLESS = "processor-keyless",
        PROGRAM_MISSING = "program-missing",
        PROGRAM_NOT_EXECUTABLE = "program-not-executable",
        PROGRAM_FOREIGN = "program-foreign",
        PROGRAM_MACHINE = "program-machine",
        PROGRAM_BROKEN = "program-broken",
        PROGRAM_SCRIPT = "program-script",
        PROGRAM_OWNER = "program-owner",
    }
    "log": {
        LOG = "log",
        LOG_UNWRITABLE = "log-unwritable",
    }
    "content store": {
        STORE = "store",
        STORE_ABSENT = "store-absent",
        STORE_ELSEWHERE = "store-elsewhere",
        STORE_UNNAMED = "store-unnamed",
        STORE_UNREADABLE = "store-unreadable",
    }
    "policy": {
        POLICY = "policy",
        POLICY_BROKEN = "policy-broken",
        POLICY_EMPTY = "policy-empty",
        POLICY_OWNER = "policy-owner",
    }
    "keys": {
        KEYS = "keys",
        KEYS_BROKEN = "keys-broken",
        KEYS_EMPTY = "keys-empty",
        KEYS_IGNORED = "keys-ignored",
        KEYS_UNCHECKED = "keys-unchecked",
        KEYS_UNREADABLE = "keys-unreadable",
    }
    "key": {
        KEY = "key",
        KEY_OPENS = "key-opens",
        KEY_ENVIRONMENT = "key-environment",
        KEY_EXTRACTABLE = "key-extractable",
        KEY_FAILED = "key-failed",
        KEY_FIELD = "key-field",
        KEY_MISMATCH = "key-mismatch",
        KEY_MODULE = "key-module",
        KEY_NO_DECRYPT = "key-no-decrypt",
        KEY_NO_DERIVE = "key-no-derive",
        KEY_OWNER = "key-owner",
        KEY_REFUSED = "key-refused",
        KEY_UNTRIED = "key-untried",
        PIN_READABLE = "pin-readable",
    }
    "module": {
        MODULE_LIBRARIES = "module-libraries",
        MODULE_OWNER = "module-owner",
    }
    "token": {
        TOKEN_WRONG_PIN = "token-wrong-pin",
    }
    "image": {
        IMAGE = "image",
        IMAGE_PLATFORM = "image-platform",
        IMAGE_UNREADABLE = "image-unreadable",
    }
    "layer": {
        LAYER_ABSENT = "layer-absent",
        LAYER_BROKEN = "layer-broken",
        LAYER_OPENS = "layer-opens",
        LAYER_SHUT = "layer-shut",
        LAYER_TYPE = "layer-type",
        LAYER_UNTRIED = "layer-untried",
    }
    "runtime directory": {
        RUNTIME_DIRECTORY = "runtime-directory",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_every_id_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/findings.md");
        let page = std::fs::read_to_string(page).unwrap();
        let listed: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(id, _)| id)
            .collect();
        let ids: BTreeSet<_> = ALL.iter().map(|kind| kind.id).collect();
        assert_eq!(ids.len(), ALL.len(), "two have one id");
        assert_eq!(listed.len(), ALL.len(), "one is listed twice");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), ids);
    }
}
