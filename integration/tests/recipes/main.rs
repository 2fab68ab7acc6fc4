//! The recipes of README.md and docs/ work as they are written: each page is typed into a fresh shell, in a machine of
//! its own, and prints what the page says.
//!
//! The machine is this one or a peer's root, with directories `/etc`, `/usr/local` and `/var/lib` that go away with it.
//! `ocihsm` is on the search path and installed, a new one is in the directory `new`, and the image `app:v1` in the current
//! directory. What else a page takes for granted is [`Before`].

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
for directory in /etc /usr/local /var/lib; do
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

/// What is there before a page is followed.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// Commands that make it; `$PAGE` is the page.
    commands: &'static [&'static str],
    /// Programs that they or the page want, beside those that all pages want.
    programs: &'static [&'static str],
}

/// The token, the key file and the public key that a page calls `prod` and `imagekey`.
const IMAGEKEY: &str = "
softhsm2-util --init-token --free --label prod --so-pin 87654321 --pin 271828
printf 271828 > pin
SOFTHSM2_CONF=/etc/softhsm/softhsm2.conf ocihsm keys generate --token prod --label imagekey --pin-file pin";

/// A registry that is called registry.example, and is trusted. The machine has its network for itself.
const REGISTRY: &str = r#"
ip link set lo up
echo '127.0.0.1 registry.example' >> /etc/hosts
mkdir -p /etc/containers/certs.d/registry.example ../registry
cd ../registry
printf '[req]\ndistinguished_name = a\nx509_extensions = b\n[a]\n[b]\nsubjectAltName = DNS:registry.example\n' > names
openssl req -x509 -config names -newkey rsa:2048 -nodes -sha256 -days 2 -subj /CN=registry.example -keyout key -out certificate
cp certificate /etc/containers/certs.d/registry.example/ca.crt
cat > config.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: $PWD/data}}
http: {addr: "127.0.0.1:443", tls: {certificate: $PWD/certificate, key: $PWD/key}}
END
docker-registry serve config.yml > log 2>&1 &
for _ in {1..100}; do
    sleep 0.1
    ! (: < /dev/tcp/127.0.0.1/443) || exit 0
done
cat log
exit 1"#;

/// A journal. What it was given is there when it is asked.
const JOURNAL: &str = r#"
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' > /etc/machine-id
mkdir -p /run/log/journal
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n' > /etc/systemd/journald.conf
/lib/systemd/systemd-journald > ../journald.log 2>&1 &
printf '#!/bin/sh\n/usr/bin/journalctl --sync\nexec /usr/bin/journalctl "$@"\n' > ../bin/journalctl
chmod +x ../bin/journalctl
for _ in {1..100}; do
    sleep 0.1
    [ ! -S /run/systemd/journal/socket ] || exit 0
done
cat ../journald.log
exit 1"#;

/// What the package brings, and the main file that the page shows.
const DOCKER: &str = r#"
mkdir -p /etc/containerd/conf.d
mkdir -p -m 700 /etc/containerd/ocicrypt/keys
ocihsm config containerd --path /usr/bin/ocihsm > /etc/containerd/conf.d/ocihsm.toml
sed -n '/```toml$/,/```$/{/```/!p}' "$PAGE" > /etc/containerd/config.toml"#;

/// What k3s makes when it starts.
const K3S: &str = r#"
containerd=/var/lib/rancher/k3s/agent/etc/containerd
mkdir -p $containerd
printf 'version = 3\nimports = ["%s/config-v3.toml.d/*.toml"]\n' $containerd > $containerd/config.toml"#;

fn page(name: &str, root: Option<Root>) {
    page_after(name, root, Before::default());
}

fn page_after(name: &str, root: Option<Root>, before: Before) {
    if !skip::root()
        || !skip::programs(&["softhsm2-util", "openssl"])
        || !skip::programs(before.programs)
    {
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
    let mut script = format!("export PAGE={}\n", repository().join(name).display());
    for (number, made) in before.commands.iter().enumerate() {
        let file = place.path().join(format!("before{number}"));
        fs::write(&file, made).unwrap();
        let file = file.display();
        script += &format!(
            "bash -e {file} >{file}.log 2>&1 </dev/null || {{ cat {file}.log; exit 1; }}\n"
        );
    }
    let script = script + &Command::script(&commands);
    let output = run(&root, &place, &script);
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
    root.isolated(&place.path().join("scratch"), "unshare")
        .args(["--net", "sh", "-c", ENTER, "sh"])
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
    let before = Before {
        commands: &[REGISTRY],
        programs: &["docker-registry", "ip"],
    };
    page_after("README.md", Some(Root::host()), before);
}

#[test]
fn image_names() {
    let before = Before {
        commands: &[REGISTRY],
        programs: &["docker-registry", "ip"],
    };
    page_after("docs/image-names.md", Some(Root::host()), before);
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
    let before = Before {
        commands: &[JOURNAL],
        programs: &["journalctl", "jq"],
    };
    page_after("docs/alerting.md", Some(Root::host()), before);
}

#[test]
fn ci() {
    let before = Before {
        // What comes from the build.
        commands: &["skopeo copy oci:app:v1 oci-archive:app.tar", REGISTRY],
        programs: &["jq", "skopeo", "docker-registry", "ip"],
    };
    page_after("docs/ci.md", Some(Root::host()), before);
}

#[test]
fn docker() {
    let before = Before {
        commands: &[IMAGEKEY, DOCKER],
        programs: &["containerd"],
    };
    page_after("docs/docker.md", Some(Root::host()), before);
}

#[test]
fn k3s_and_rke2() {
    let before = Before {
        commands: &[IMAGEKEY, K3S],
        programs: &[],
    };
    page_after("docs/k3s-and-rke2.md", Some(Root::host()), before);
}

#[test]
fn imgcrypt() {
    for root in [Root::trixie(), Root::sid()] {
        page("docs/imgcrypt.md", root);
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
fn every_page_with_recipes_is_run_or_says_what_is_not() {
    let here = fs::read_to_string(repository().join("integration/tests/recipes/main.rs")).unwrap();
    for entry in fs::read_dir(repository().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("docs/{}", path.file_name().unwrap().to_string_lossy());
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                Command::all(&text).is_empty() || here.contains(&format!("\"{name}\"")),
                "{name}"
            );
            for block in text.split("```sh\n").skip(1) {
                let after = block.split_once("```").unwrap().1.trim_start();
                assert!(after.starts_with("Not run by a test: "), "{name}: {block}");
            }
        }
    }
}
