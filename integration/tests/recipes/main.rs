//! The recipes of README.md and docs/ work as they are written: each page is typed into a fresh shell, in a machine of
//! its own, and prints what the page says.
//!
//! The machine is this one or a peer's root, with a directory `/etc`, `/usr/local` and `/var/lib/softhsm` that go away
//! with it. `ocihsm` is on the search path and installed, a new one is in the directory `new`, and the image `app:v1` in
//! the current directory.

mod recipe;

use std::fs;

use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::Output;
use integration::root::Root;
use integration::{ocihsm, repository, skip};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::recipe::Command;

/// Makes the machine; the rest of the arguments is run in it.
const ENTER: &str = r#"
set -e
place=$1
shift
for directory in /etc /usr/local; do
    mkdir -p "$place/upper$directory" "$place/work$directory"
    mount -t overlay overlay -o "lowerdir=$directory,upperdir=$place/upper$directory,workdir=$place/work$directory" "$directory"
done
mkdir -p /var/lib/softhsm /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/softhsm
mkdir /var/lib/softhsm/tokens
mount -t tmpfs tmpfs /var/lib/containerd
rm -rf /etc/containerd /etc/ocicrypt.conf
install -D -m 755 "$place/bin/ocihsm" /usr/local/bin/ocihsm
cd "$place/here"
exec "$@"
"#;

fn page(name: &str, root: Option<Root>) {
    if !skip::root() || !skip::programs(&["softhsm2-util", "openssl"]) {
        return;
    }
    let Some(root) = root else {
        skip::skipped("the peers were not made (integration/peers)");
        return;
    };
    let text = fs::read_to_string(repository().join(name)).unwrap();
    let commands = Command::all(&text);
    assert!(!commands.is_empty(), "{name} has no recipe");
    let place = TempDir::new().unwrap();
    let output = run(&root, &place, &Command::script(&commands));
    let answers = Command::answers(&output.text());
    let mut wrong = String::new();
    for (command, (printed, succeeded)) in commands.iter().zip(&answers) {
        if !command.describes(printed, *succeeded) {
            wrong.push_str(&format!(
                "{name}:{}: {}\nprinted ({}):\n{printed}\n",
                command.line,
                command.typed,
                if *succeeded { "succeeded" } else { "failed" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(
        answers.len(),
        commands.len(),
        "the shell ended early: {output:?}"
    );
}

fn run(root: &Root, place: &TempDir, script: &str) -> Output {
    let here = place.path().join("here");
    fs::create_dir_all(&here).unwrap();
    app(&here);
    // A name of its own, since the page installs it, and the debug build may be called for by another path.
    let bin = place.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(ocihsm(), bin.join("ocihsm")).unwrap();
    fs::create_dir(here.join("new")).unwrap();
    fs::hard_link(bin.join("ocihsm"), here.join("new/ocihsm")).unwrap();
    for directory in ["home", "scratch"] {
        fs::create_dir(place.path().join(directory)).unwrap();
    }
    root.isolated(&place.path().join("scratch"), "sh")
        .args(["-c", ENTER, "sh"])
        .arg(place.path())
        .args(["env", "--ignore-environment", "LC_ALL=C.UTF-8"])
        .arg(format!("HOME={}", place.path().join("home").display()))
        .arg(format!(
            "PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            bin.display()
        ))
        .args(["bash", "-c", script])
        .run()
}

/// The image `app:v1`, in plain.
fn app(here: &std::path::Path) {
    let layers = [
        Layer::file("etc/one", &noise(5000), Compression::Gzip),
        Layer::file("etc/two", b"two\n", Compression::Zstd),
    ];
    Layout::create(here.join("app"), &layers, &["/etc/one"]);
    let index = here.join("app/index.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    value["manifests"][0]["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    fs::write(&index, value.to_string()).unwrap();
}

#[test]
fn readme() {
    page("README.md", Some(Root::host()));
}

#[test]
fn key_file() {
    page("docs/key-file.md", Some(Root::host()));
}

#[test]
fn rotating() {
    page("docs/rotating.md", Some(Root::host()));
}

#[test]
fn alerting() {
    page("docs/alerting.md", Some(Root::host()));
}

#[test]
fn ci() {
    if skip::programs(&["jq"]) {
        page("docs/ci.md", Some(Root::host()));
    }
}

/// The check that the page gives a job fails it, whether or not the job's shell has `set -e`, and whatever follows.
#[test]
fn the_check_of_ci_fails_where_a_layer_is_plain_and_where_there_is_no_image() {
    if !skip::root() || !skip::programs(&["openssl", "jq"]) {
        return;
    }
    let text = fs::read_to_string(repository().join("docs/ci.md")).unwrap();
    let check: Vec<_> = Command::all(&text)
        .into_iter()
        .map(|command| command.typed)
        .filter(|typed| typed.contains("layers.json"))
        .collect();
    assert_eq!(check.len(), 2, "{check:?}");
    let check = check.join("\n");
    // What an earlier job left behind says that all is well.
    let before = "set -e
        openssl genrsa -out key.pem 2048 && openssl rsa -in key.pem -pubout -out key.pub.pem
        ocihsm encrypt oci:app:v1 oci:app-encrypted:v1 --recipient jwe:key.pub.pem
        ocihsm encrypt oci:app:v1 oci:half:v1 --encrypt-layer -1 --recipient jwe:key.pub.pem
        ocihsm inspect oci:app-encrypted:v1 --json > layers.json\n";
    for (image, passes) in [
        ("app-encrypted", true),
        ("app", false),
        ("half", false),
        ("nope", false),
    ] {
        let check = check.replace("oci:app-encrypted:v1", &format!("oci:{image}:v1"));
        for errexit in ["set -e", "set +e"] {
            let place = TempDir::new().unwrap();
            let script = format!("{before}\n{errexit}\n{check}\necho passed");
            let output = run(&Root::host(), &place, &script);
            let passed = output.text().ends_with("passed\n");
            assert_eq!(output.status.success(), passes, "{image}: {output:?}");
            assert_eq!(passed, passes, "{image}, {errexit}: {output:?}");
            assert!(output.text().contains("sha256:"), "{image}: {output:?}");
        }
    }
}

#[test]
fn environment() {
    page("docs/environment.md", Some(Root::host()));
}

#[test]
fn upgrade() {
    page("docs/upgrade.md", Some(Root::host()));
}

#[test]
fn findings() {
    page("docs/findings.md", Some(Root::host()));
}

#[test]
fn skopeo_and_buildah() {
    for root in [Root::trixie(), Root::sid()] {
        page("docs/skopeo-and-buildah.md", root);
    }
}

/// A page with a recipe that no test runs would be a promise that nobody keeps.
#[test]
fn every_page_with_recipes_is_run() {
    let here = fs::read_to_string(repository().join("integration/tests/recipes/main.rs")).unwrap();
    for entry in fs::read_dir(repository().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("docs/{}", path.file_name().unwrap().to_string_lossy());
        if path.extension().is_some_and(|extension| extension == "md") {
            let recipes = Command::all(&fs::read_to_string(&path).unwrap());
            assert!(
                recipes.is_empty() || here.contains(&format!("\"{name}\"")),
                "{name}"
            );
        }
    }
}
