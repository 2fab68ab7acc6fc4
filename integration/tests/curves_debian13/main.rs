//! Keys on curves behind the modules of Debian 13, which do what those of Debian 12 cannot: made, encrypted to and decrypted
//! with, and nothing that was derived stays in the token.

use std::path::Path;

use integration::root::Root;
use integration::{ocihsm, repository, skip, vector};
use tempfile::TempDir;

#[test]
fn opencryptoki() {
    way_of_keys(
        "opencryptoki",
        "usr/sbin/pkcsslotd",
        &["p256", "p384", "p521"],
    );
}

#[test]
fn tpm2() {
    way_of_keys("tpm2", "usr/bin/swtpm", &["p256", "p384"]);
}

#[test]
fn p11_kit() {
    way_of_keys("p11-kit", "usr/bin/pkcs11-tool", &["p256", "p384", "p521"]);
}

/// `program` is what the root was made with for this module.
fn way_of_keys(name: &str, program: &str, curves: &[&str]) {
    if !skip::root() {
        return;
    }
    let root = Root::trixie().filter(|root| root.path(program).is_some());
    let Some(root) = root else {
        skip::skipped(&format!(
            "no peers of Debian 13 with {name} (integration/peers)"
        ));
        return;
    };
    let place = TempDir::with_prefix("ocihsm-curves-").unwrap();
    let output = root
        .program(&place, "sh")
        .arg(repository().join("integration/tests/curves_debian13/way.sh"))
        .arg(ocihsm())
        .arg(vector(Path::new("images/plain")))
        .arg(place.path().join("place"))
        .arg(name)
        .ok();
    let text = output.text();
    for curve in curves {
        assert!(text.contains(&format!("opened {curve}\n")), "{output:?}");
        assert!(text.contains(&format!("left {curve} 0\n")), "{output:?}");
        let shown = curve.replace('p', "P-");
        assert!(text.contains(&shown), "{output:?}");
    }
}
