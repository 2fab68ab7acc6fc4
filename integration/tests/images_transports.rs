//! The dangers of `ocihsm encrypt` and `decrypt` wherever an image is: in a layout, in an archive, in a registry, in
//! containerd. What is about one layer's content alone is in `images_plain.rs`, more about containerd in `containerd_store`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer, short};
use integration::layout::{Layout, TAG};
use integration::made::{EROFS, MANIFEST, Made, STATEMENT, TAR};
use integration::processor::Processor;
use integration::program::Program;
use integration::registry::Registry;
use integration::root::Root;
use integration::skip;
use integration::stage::{Stage, assert_fails, names, recipient};
use serde_json::{Value, json};

const SECRET: &[u8] = b"the plain content of a layer";

enum Transport {
    Layout,
    Archive,
    Registry(Registry),
    Containerd(Containerd),
}

/// A token, an image that is filled blob by blob, and a transport that it comes and goes by.
struct World {
    stage: Stage,
    made: Made,
    transport: Transport,
}

/// Does it with each transport.
fn everywhere(test: impl Fn(&World)) {
    outside_of_containerd(&test);
    if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let settings = Settings::new(Root::host(), &stage.token.keys(&["rsa3072"]));
    let transport = Transport::Containerd(Containerd::start(&settings));
    on(stage, transport, &test);
}

/// Does it with each transport but containerd, which has tests of its own for it.
fn outside_of_containerd(test: impl Fn(&World)) {
    let mut transports = vec![Transport::Layout, Transport::Archive];
    if skip::programs(&["docker-registry"]) {
        transports.push(Transport::Registry(Registry::start()));
    }
    for transport in transports {
        on(Stage::new(), transport, &test);
    }
}

fn on(stage: Stage, transport: Transport, test: impl Fn(&World)) {
    test(&World {
        made: Made::new(stage.at("made")),
        stage,
        transport,
    });
}

impl World {
    /// Where an image of that name is, or will be.
    fn at(&self, name: &str) -> String {
        match &self.transport {
            Transport::Layout => self.stage.name("oci:", name) + ":latest",
            Transport::Archive => self.stage.name("oci-archive:", name) + ":latest",
            Transport::Registry(registry) => format!("docker://{}", registry.reference(name)),
            Transport::Containerd(_) => format!("containerd:{}", named(name)),
        }
    }

    /// Puts an image there.
    fn put(&self, layout: &Layout, name: &str) -> String {
        match &self.transport {
            Transport::Layout => {
                let _ = fs::remove_dir_all(self.stage.at(name));
                let _ = layout.copy(self.stage.at(name));
            }
            Transport::Archive => {
                fs::copy(layout.archive(), self.stage.at(name)).unwrap();
            }
            Transport::Registry(registry) => {
                registry.push(layout, name);
            }
            Transport::Containerd(containerd) => {
                let archive = layout.archive();
                let base = format!("test.example/{name}");
                let import = ["images", "import", "--no-unpack", "--all-platforms"];
                let import = containerd.ctr(&import).args(["--base-name", &base]);
                import.arg(&archive).ok();
            }
        }
        self.at(name)
    }

    /// What is there under a name.
    fn get(&self, name: &str) -> Layout {
        let copy = self.stage.at(&format!("{name}-copy"));
        let _ = fs::remove_dir_all(&copy);
        let unpacked = |file: &str| {
            let mut archive = tar::Archive::new(File::open(self.stage.at(file)).unwrap());
            archive.unpack(&copy).unwrap();
            Layout::open(&copy)
        };
        match &self.transport {
            Transport::Layout => Layout::open(self.stage.at(name)),
            Transport::Archive => unpacked(name),
            Transport::Containerd(containerd) => {
                let file = format!("{name}-export");
                containerd.export(&["--all-platforms"], &self.stage.at(&file), &named(name));
                unpacked(&file)
            }
            Transport::Registry(registry) => registry.pull(name, TAG, &copy),
        }
    }

    fn is_there(&self, name: &str) -> bool {
        match &self.transport {
            Transport::Registry(registry) => registry.has_tag(name, TAG),
            Transport::Containerd(containerd) => {
                let list = containerd.ctr(&["images", "list", "--quiet"]);
                list.ok().text().lines().any(|line| line == named(name))
            }
            _ => self.stage.at(name).exists(),
        }
    }

    fn encrypt(&self, source: &str, target: &str) -> Program {
        self.asks(self.stage.encrypt(source, &self.at(target)))
    }

    fn decrypt(&self, source: &str, target: &str) -> Program {
        self.asks(self.stage.decrypt(&self.at(source), &self.at(target)))
    }

    /// A program that is told how to speak to whoever has the images.
    fn asks(&self, program: Program) -> Program {
        let program = program.arg("--tls-verify=false");
        match &self.transport {
            Transport::Containerd(containerd) => program
                .env("CONTAINERD_ADDRESS", containerd.socket())
                .env("CONTAINERD_NAMESPACE", containerd.namespace()),
            _ => program,
        }
    }
}

/// What containerd calls an image.
fn named(name: &str) -> String {
    format!("test.example/{name}:{TAG}")
}

/// Whether any file of a layout holds these bytes.
fn holds(layout: &Layout, content: &[u8]) -> bool {
    let blobs = fs::read_dir(layout.path().join("blobs/sha256")).unwrap();
    let mut blobs = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
    blobs.any(|blob| blob.windows(content.len()).any(|window| window == content))
}

#[test]
fn a_layer_without_an_encrypted_form_is_not_shipped_unasked() {
    everywhere(|world| {
        let made = &world.made;
        let plain = made.layer(EROFS, SECRET);
        made.index(&[
            made.ordinary(),
            made.manifest(std::slice::from_ref(&plain), json!({})),
        ]);
        let source = world.put(&made.layout, "source");
        let output = world.encrypt(&source, "target").run();
        assert_fails(&output, &["layer", short(&plain), EROFS, "--leave-plain"]);
        assert!(!world.is_there("target"));
        let asked = world.encrypt(&source, "target");
        let asked = asked.args(["--leave-plain", EROFS]).ok();
        assert!(asked.stderr.contains(short(&plain)), "{}", asked.stderr);
        let target = world.get("target");
        target.assert_sound();
        assert!(holds(&target, SECRET) && !holds(&target, b"an ordinary layer"));
    });
}

#[test]
fn what_is_plain_under_another_name_is_not_shipped_unsaid() {
    everywhere(|world| {
        let made = &world.made;
        let layer = Layer::file("a", SECRET, Compression::Gzip).blob;
        let hidden = made.layer(STATEMENT, &layer);
        let attestation = made.manifest(std::slice::from_ref(&hidden), json!({}));
        made.index(&[made.ordinary(), attestation]);
        let source = world.put(&made.layout, "source");
        let output = world.encrypt(&source, "target").run();
        assert_fails(&output, &["layer", short(&hidden), STATEMENT]);
        assert!(!world.is_there("target"));

        made.name(made.ordinary());
        world.encrypt(&made.layout.reference(), "first").ok();
        let annotations = world.get("first").layers()[0]["annotations"].clone();
        let mut stolen = made.layer(&format!("{TAR}+encrypted"), &layer);
        stolen["annotations"] = annotations;
        made.name(made.manifest(&[made.layer(TAR, b"x"), stolen.clone()], json!({})));
        let source = world.put(&made.layout, "second");
        let some = world.encrypt(&source, "target");
        let some = some.args(["--encrypt-layer", "0"]).ok();
        let told = format!(
            "{} ({TAR}+encrypted) stays as it is, and is plain",
            short(&stolen)
        );
        assert!(some.stderr.contains(&told), "{}", some.stderr);
        // Its key is another layer's, so it opens, and what it opens is not this.
        let stage = &world.stage;
        let rekey = stage
            .ocihsm()
            .args(["rekey", &source, &world.at("rekeyed")]);
        let rekey = world.asks(rekey.args(["--add", &recipient("other3072")]));
        let output = rekey
            .arg("--key")
            .arg(stage.token.key_file("rsa3072"))
            .run();
        match world.transport {
            Transport::Registry(_) => {
                assert!(output.status.success(), "{}", output.stderr);
                assert!(output.stderr.contains("not read"), "{}", output.stderr);
            }
            _ => {
                assert_fails(&output, &["verification failed"]);
                assert!(!world.is_there("rekeyed"));
            }
        }
    });
}

#[test]
fn a_layer_with_urls_that_is_here_is_encrypted() {
    everywhere(|world| {
        let made = &world.made;
        let mut layer = made.layer(TAR, SECRET);
        layer["urls"] = json!(["https://example.test/layer"]);
        made.name(made.manifest(&[layer, made.layer(TAR, b"x")], json!({})));
        let source = match world.transport {
            // It takes no such manifest.
            Transport::Registry(_) => made.layout.reference(),
            _ => world.put(&made.layout, "source"),
        };
        world.encrypt(&source, "target").ok();
        let target = world.get("target");
        assert!(!holds(&target, SECRET));
        assert_eq!(target.layers()[0]["mediaType"], format!("{TAR}+encrypted"));
        world.decrypt("target", "back").ok();
        assert!(holds(&world.get("back"), SECRET));
    });
}

#[test]
fn a_killed_run_leaves_nothing_readable_and_no_image_and_the_next_one_removes_it() {
    outside_of_containerd(|world| {
        let (stage, made) = (&world.stage, &world.made);
        let content = vec![7; 16 << 20];
        made.name(made.manifest(&[made.layer(TAR, &content)], json!({})));
        let source = made.layout.reference();
        world.encrypt(&source, "encrypted").ok();
        let mut command = world.decrypt("encrypted", "back").into_command();
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let hidden = || {
            let names = names(stage.place.path()).into_iter();
            names
                .filter(|name| name.starts_with('.'))
                .collect::<Vec<_>>()
        };
        let is_under_way = || match &world.transport {
            Transport::Registry(registry) => registry.uploads("back") > 0,
            _ => !hidden().is_empty(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_under_way() {
            assert!(Instant::now() < deadline, "nothing is being written");
            assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!world.is_there("back"));
        let left = hidden();
        for name in &left {
            let mode = fs::metadata(stage.at(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        if let Transport::Registry(_) = world.transport {
            assert_eq!(left, [""; 0]);
        }
        world.decrypt("encrypted", "back").ok();
        assert_eq!(hidden(), [""; 0]);
    });
}

#[test]
fn an_image_is_not_replaced_by_its_plain_form_unasked() {
    outside_of_containerd(|world| {
        world.made.name(world.made.ordinary());
        let source = world.made.layout.reference();
        let printed = world.encrypt(&source, "app").ok();
        let output = world.decrypt("app", "app").run();
        assert_fails(&output, &["already", "--force"]);
        assert_fails(&world.encrypt(&source, "app").run(), &["--force"]);
        let report = world.asks(world.stage.inspect(&world.at("app")));
        let report = report.ok().text();
        assert!(report.contains(printed.text().trim_end()), "{report}");
        world.decrypt("app", "app").arg("--force").ok();
        assert!(holds(&world.get("app"), b"an ordinary layer"));
    });
}

#[test]
fn what_names_the_image_by_its_digest_follows_it_and_comes_back() {
    everywhere(|world| {
        let made = &world.made;
        let image = made.ordinary();
        let named = image["digest"].as_str().unwrap();
        let said = json!({"subject": [{"digest": {"sha256": &named[7..]}}]}).to_string();
        let statement = made.layer(STATEMENT, said.as_bytes());
        let subject = json!({"subject": image});
        let mut attestation = made.manifest(std::slice::from_ref(&statement), subject);
        attestation["annotations"] = json!({"vnd.docker.reference.digest": named});
        made.index(&[image.clone(), attestation]);
        let before = made.layout.entry(TAG)["digest"].clone();
        let source = world.put(&made.layout, "source");
        let output = world.encrypt(&source, "target").ok();
        let told = format!("still speaks of manifest {}", short(&image));
        assert!(output.stderr.contains(&told), "{}", output.stderr);
        let target = world.get("target");
        let index: Value = serde_json::from_slice(&target.read(&target.entry(TAG))).unwrap();
        let (now, other) = (&index["manifests"][0], &index["manifests"][1]);
        assert_ne!(now["digest"], image["digest"]);
        assert_eq!(
            other["annotations"]["vnd.docker.reference.digest"],
            now["digest"]
        );
        let other: Value = serde_json::from_slice(&target.read(other)).unwrap();
        assert_eq!(other["subject"]["digest"], now["digest"]);
        let back = world.decrypt("target", "back").ok();
        assert_eq!(back.text().trim_end(), before);
    });
}

#[test]
fn an_encrypted_layer_of_dockers_type_becomes_one_of_ocis() {
    everywhere(|world| {
        let (stage, made) = (&world.stage, &world.made);
        made.name(made.ordinary());
        let encrypted = stage.name("oci:", "encrypted-layout");
        stage.encrypt(&made.layout.reference(), &encrypted).ok();
        // As a tool wrote it that added the suffix to what it found.
        let encrypted = Layout::open(stage.at("encrypted-layout"));
        let mut manifest = encrypted.manifest("amd64");
        let docker = "application/vnd.docker.image.rootfs.diff.tar+encrypted";
        manifest["layers"][0]["mediaType"] = docker.into();
        let mut entry = encrypted.put(MANIFEST, manifest.to_string().as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": TAG});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(encrypted.path().join("index.json"), index.to_string()).unwrap();

        let source = world.put(&encrypted, "encrypted");
        let report = world.asks(stage.inspect(&source)).ok();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        let warning = &report["images"][0]["layers"][0]["warning"];
        assert!(warning.is_string(), "{report}");
        let key = stage.token.key_file("rsa3072");
        let oci = format!("{TAR}+encrypted");
        let more = stage.ocihsm().args(["encrypt", &source, &world.at("more")]);
        let other = recipient("other3072");
        let more = more.args(["--recipient", &other, "--key"]).arg(&key);
        world.asks(more).ok();
        assert_eq!(world.get("more").layers()[0]["mediaType"], oci);
        let rekey = stage
            .ocihsm()
            .args(["rekey", &source, &world.at("rekeyed")]);
        let rekey = rekey.args(["--add", &other, "--key"]).arg(&key);
        world.asks(rekey).ok();
        assert_eq!(world.get("rekeyed").layers()[0]["mediaType"], oci);
        world.decrypt("encrypted", "back").ok();
        let back = world.get("back");
        assert_eq!(back.layers()[0]["mediaType"], TAR);
        assert!(holds(&back, b"an ordinary layer"));
    });
}

#[test]
fn decode_opens_an_encrypted_layer_of_dockers_type() {
    let stage = Stage::new();
    let made = Made::new(stage.at("made"));
    made.name(made.ordinary());
    let target = stage.name("oci:", "encrypted");
    stage.encrypt(&made.layout.reference(), &target).ok();
    let encrypted = Layout::open(stage.at("encrypted"));
    let mut layer = encrypted.layers()[0].clone();
    layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar+encrypted".into();
    let keys = stage.token.keys(&["rsa3072"]);
    let decode = || Processor::decode(&stage.token, &encrypted, &layer, &keys);
    let store = stage.at("store");
    encrypted.store(&store);
    for processor in [
        decode().payload(&layer, &Value::Null),
        decode().store(&store),
    ] {
        let output = processor.run().output;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"an ordinary layer");
    }
}
