//! `ocihsm config`: what is printed works where it is put, and what cannot work is refused.

use integration::ocihsm;
use integration::program::Program;
use integration::skip;

#[test]
fn what_containerd_would_not_find_is_refused() {
    for (argument, value) in [
        ("--path", "bin/ocihsm"),
        ("--path", ""),
        ("--log", "journal"),
        ("--keys", "keys"),
        ("--policy", "ocicrypt.conf"),
    ] {
        let output = Program::new(ocihsm())
            .args(["config", "containerd", argument, value])
            .run();
        assert!(!output.status.success(), "{argument} {value}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(output.stderr.contains("absolute path"), "{output:?}");
    }
}

#[test]
fn a_policy_that_allows_nothing_comes_with_a_warning() {
    if !skip::root() || !skip::programs(&["unshare"]) {
        return;
    }
    // In a mount namespace of its own, every module that is found becomes an empty file.
    let script = r#"
        "$1" config policy | sed -n 's/^    - \(.*[^/]\)$/\1/p' |
            while read -r module; do mount --bind /dev/null "$module"; done
        "$1" config policy"#;
    let output = Program::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["sh", "-c", script, "sh"])
        .arg(ocihsm())
        .ok();
    assert!(
        output.text().contains("allowed-module-paths: []"),
        "{output:?}"
    );
    assert!(
        output
            .stderr
            .starts_with("ocihsm: warning: no PKCS#11 module was found"),
        "{output:?}"
    );
    let elsewhere = Program::new(ocihsm()).args(["config", "policy"]).ok();
    assert_eq!(elsewhere.stderr, "");
}
