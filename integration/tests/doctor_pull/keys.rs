//! Mistakes in key files, PINs and the policy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use integration::token::WRONG_PIN;
use integration::vector;

use crate::stand::Stand;
use crate::{Row, Says, When};

const fn row(name: &'static str, make: fn(&Stand), says: Says) -> Row {
    Row {
        name,
        first: |_| {},
        make,
        when: When::While,
        says,
    }
}

/// Replaces something in the URI.
fn uri(stand: &Stand, from: &str, to: &str) {
    let uri = stand.uri();
    assert!(uri.contains(from), "{from}");
    stand.key(&uri.replace(from, to), &stand.environment());
}

pub(crate) const ROWS: &[Row] = &[
    row("nothing wrong", |_| {}, Says::Content),
    row(
        "no key file",
        |stand| {
            fs::remove_file(stand.node.keys.join("key.yaml")).unwrap();
        },
        Says::Fails("keys-empty"),
    ),
    row(
        "a public key where a key file belongs",
        |stand| {
            fs::copy(
                vector("keys/rsa3072.pub.pem"),
                stand.node.keys.join("key.yaml"),
            )
            .unwrap();
        },
        Says::Fails("keys-empty"),
    ),
    row(
        "a bare URI in the key file",
        |stand| {
            fs::write(stand.node.keys.join("key.yaml"), stand.uri()).unwrap();
        },
        Says::Fails("keys-broken"),
    ),
    row(
        "no uri in the key file",
        |stand| {
            fs::write(stand.node.keys.join("key.yaml"), "pkcs11:\n  url: x\n").unwrap();
        },
        Says::Fails("keys-broken"),
    ),
    row(
        "a key file that is no YAML",
        |stand| {
            fs::write(stand.node.keys.join("key.yaml"), "pkcs11:\n\turi: [\n").unwrap();
        },
        Says::Fails("keys-broken"),
    ),
    row(
        "an attribute that is none",
        |stand| uri(stand, "object=", "label="),
        Says::Fails("keys-broken"),
    ),
    row(
        "another token",
        |stand| uri(stand, "token=ocicrypt-vectors", "token=prod"),
        Says::Fails("key-failed"),
    ),
    row(
        "another label",
        |stand| uri(stand, "object=rsa3072", "object=nokey"),
        Says::Fails("key-failed"),
    ),
    row(
        "another module",
        |stand| uri(stand, "softhsm2", "nomodule"),
        Says::Fails("key-module"),
    ),
    row(
        "a module that is none",
        |stand| {
            stand.write("libsofthsm2.so", "not ELF");
            let module = stand.path("libsofthsm2.so");
            stand.write(
                "policy",
                &format!(
                    "pkcs11:\n  allowed-module-paths:\n    - {}\n",
                    module.display()
                ),
            );
            uri(
                stand,
                "module-name=softhsm2",
                &format!("module-path={}", module.display()),
            );
        },
        Says::Fails("key-failed"),
    ),
    row(
        "no environment for the module",
        |stand| stand.key(&stand.uri(), ""),
        Says::Fails("key-failed"),
    ),
    row(
        "an environment that names no file",
        |stand| {
            stand.key(
                &stand.uri(),
                "module:\n  env:\n    SOFTHSM2_CONF: /nowhere/softhsm2.conf\n",
            );
        },
        Says::Fails("key-failed"),
    ),
    row(
        "an environment that names a configuration whose directory of tokens is not there",
        |stand| {
            stand.write("softhsm2.conf", "directories.tokendir = /nowhere/tokens\n");
            let conf = stand.path("softhsm2.conf");
            let env = format!("module:\n  env:\n    SOFTHSM2_CONF: {}\n", conf.display());
            stand.key(&stand.uri(), &env);
        },
        Says::Fails("key-failed"),
    ),
    row(
        "a wrong PIN",
        |stand| stand.private("pin", WRONG_PIN),
        Says::Fails("key-failed"),
    ),
    row(
        "no PIN",
        |stand| {
            stand.key(
                &stand.uri().replace("pin-source", "x-source"),
                &stand.environment(),
            );
        },
        Says::Fails("key-failed"),
    ),
    row(
        "the PIN file is not there",
        |stand| {
            fs::remove_file(stand.path("pin")).unwrap();
        },
        Says::Fails("key-failed"),
    ),
    row(
        "the PIN file is empty",
        |stand| stand.private("pin", ""),
        Says::Fails("key-failed"),
    ),
    row(
        "the PIN file has two lines",
        |stand| {
            stand.private("pin", &format!("{WRONG_PIN}\n{WRONG_PIN}\n"));
        },
        Says::Fails("key-failed"),
    ),
    row(
        "the PIN file ends with a line end",
        |stand| {
            let pin = fs::read_to_string(stand.path("pin")).unwrap();
            stand.private("pin", &format!("{pin}\n"));
        },
        Says::Content,
    ),
    row(
        "the PIN file is a directory",
        |stand| {
            uri(
                stand,
                &stand.path("pin").display().to_string(),
                &stand.path("conf.d").display().to_string(),
            );
        },
        Says::Fails("key-failed"),
    ),
    row(
        "others may read the PIN",
        |stand| {
            let (pin, place) = (stand.path("pin"), stand.path(""));
            fs::set_permissions(pin, fs::Permissions::from_mode(0o644)).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
        },
        Says::Stricter("pin-readable", "whoever reads the PIN may use the key"),
    ),
    row(
        "others may write the key file",
        |stand| {
            let key = stand.node.keys.join("key.yaml");
            fs::set_permissions(key, fs::Permissions::from_mode(0o666)).unwrap();
        },
        Says::Stricter("key-owner", "whoever writes it chooses what is loaded"),
    ),
    row(
        "the policy is empty",
        |stand| stand.write("policy", ""),
        Says::Fails("policy-empty"),
    ),
    row(
        "the policy has lists, and nothing in them",
        |stand| {
            stand.write(
                "policy",
                "pkcs11:\n  module-directories:\n  allowed-module-paths:\n",
            );
        },
        Says::Fails("policy-empty"),
    ),
    row(
        "the policy leads to no directory",
        |stand| {
            stand.node.change(
                "policy",
                "  module-directories:\n    - /usr/lib/softhsm/\n",
                "",
            );
        },
        Says::Fails("key-module"),
    ),
    row(
        "the policy allows another module",
        |stand| {
            stand.node.change(
                "policy",
                "    - /usr/lib/softhsm/libsofthsm2.so",
                "    - /usr/lib/softhsm/other.so",
            );
        },
        Says::Fails("key-module"),
    ),
    row(
        "the policy has its lists at the top",
        |stand| {
            stand.write(
                "policy",
                "allowed-module-paths:\n  - /usr/lib/softhsm/libsofthsm2.so\n",
            );
        },
        Says::Fails("policy-broken"),
    ),
    row(
        "the policy is no YAML",
        |stand| stand.write("policy", "pkcs11: ["),
        Says::Fails("policy-broken"),
    ),
    row(
        "the policy has a word of its own",
        |stand| {
            stand
                .node
                .change("policy", "allowed-module-paths", "allowed-modules");
        },
        Says::Fails("policy-broken"),
    ),
    row(
        "a policy where the key file belongs",
        |stand| {
            fs::copy(stand.path("policy"), stand.node.keys.join("key.yaml")).unwrap();
        },
        Says::Fails("keys-empty"),
    ),
];
