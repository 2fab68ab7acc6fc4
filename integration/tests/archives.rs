//! `oci-archive:` and `docker-archive:`, as `ocihsm` reads and writes them and as skopeo and ctr do; and how images are
//! named on a command line.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use flate2::write::GzEncoder;
use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::program::Program;
use integration::skip;
use integration::stage::{Stage, assert_fails, image, names, recipient};
use serde_json::{Value, json};

fn gzip(from: &Path, to: &Path) {
    let mut gzip = GzEncoder::new(File::create(to).unwrap(), flate2::Compression::fast());
    gzip.write_all(&fs::read(from).unwrap()).unwrap();
    gzip.finish().unwrap();
}

#[test]
fn an_archive_holds_what_a_layout_holds() {
    for name in ["plain", "plain-multi-arch"] {
        let stage = Stage::new();
        let before = image(name).entry("latest")["digest"].clone();
        let archive = stage.name("oci-archive:", "encrypted.tar");
        let tagged = format!("{archive}:v1");
        let printed = stage.encrypt(&image(name).reference(), &tagged).ok();
        assert_eq!(names(stage.place.path()), ["encrypted.tar"]);
        let report = stage.inspect(&tagged).ok().text();
        assert!(report.contains(printed.text().trim_end()), "{report}");
        // With the tag, without it, and in gzip.
        gzip(&stage.at("encrypted.tar"), &stage.at("encrypted.tgz"));
        let gzipped = stage.name("oci-archive:", "encrypted.tgz");
        for (number, source) in [&tagged, &archive, &gzipped].into_iter().enumerate() {
            let target = stage.name("oci-archive:", &format!("back{number}.tar"));
            let back = stage.decrypt(source, &target).ok();
            assert_eq!(back.text().trim_end(), before);
        }
    }
}

#[test]
fn an_archive_is_replaced_only_with_force_and_never_half() {
    let stage = Stage::new();
    let target = stage.name("oci-archive:", "mine.tar");
    fs::write(stage.at("mine.tar"), "mine").unwrap();
    let output = stage.encrypt(&image("plain").reference(), &target).run();
    assert_fails(&output, &["mine.tar is there already", "--force"]);
    // A layer that turns out to be damaged, after the first one was written.
    let broken = image("plain").copy(stage.at("broken"));
    let last = broken.layers()[2]["digest"].clone();
    let blob = broken.blob(last.as_str().unwrap());
    let length = fs::metadata(&blob).unwrap().len();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, vec![0; usize::try_from(length).unwrap()]).unwrap();
    let program = stage
        .token
        .ocihsm()
        .args(["encrypt", &broken.reference(), &target]);
    let output = program
        .args(["--force", "--recipient", &recipient("rsa3072")])
        .run();
    assert_fails(&output, &["is damaged"]);
    assert_eq!(fs::read(stage.at("mine.tar")).unwrap(), b"mine");
    assert_eq!(names(stage.place.path()), ["broken", "mine.tar"]);
    let source = image("plain").reference();
    let program = stage.token.ocihsm().args(["encrypt", &source, &target]);
    program
        .args(["--force", "--recipient", &recipient("rsa3072")])
        .ok();
    stage.inspect(&target).ok();
}

#[test]
fn skopeo_reads_what_we_wrote_and_we_what_it_wrote() {
    if !skip::programs(&["skopeo"]) {
        return;
    }
    let stage = Stage::new();
    let theirs = stage.name("oci-archive:", "theirs.tar:latest");
    Program::new("skopeo")
        .args(["copy", "-q", &image("plain").reference(), &theirs])
        .ok();
    // It writes the manifest in a style of its own.
    let report: Value = serde_json::from_slice(&stage.inspect(&theirs).ok().stdout).unwrap();
    let before = report["digest"].clone();
    let ours = stage.name("oci-archive:", "ours.tar:latest");
    let printed = stage.encrypt(&theirs, &ours).ok();
    let copy = stage.name("oci:", "copy:latest");
    Program::new("skopeo")
        .args(["copy", "-q", &ours, &copy])
        .ok();
    let copied = Layout::open(stage.at("copy")).entry("latest");
    assert_eq!(copied["digest"], printed.text().trim_end());
    let back = stage
        .decrypt(&copy, &stage.name("oci-archive:", "back.tar"))
        .ok();
    assert_eq!(back.text().trim_end(), before);
}

#[test]
fn what_skopeo_writes_as_docker_save_does_is_encrypted_and_comes_back() {
    if !skip::programs(&["skopeo"]) {
        return;
    }
    let stage = Stage::new();
    let layers = [
        Layer::file("a", b"first", Compression::Gzip),
        Layer::file("b", b"second", Compression::None),
    ];
    let layout = Layout::create(stage.at("source"), &layers, &["/a"]);
    let saved = stage.name("docker-archive:", "saved.tar");
    Program::new("skopeo")
        .args([
            "copy",
            "-q",
            &layout.reference(),
            &format!("{saved}:example.test/app:v1"),
        ])
        .ok();
    for (number, source) in [saved.clone(), format!("{saved}:example.test/app:v1")]
        .iter()
        .enumerate()
    {
        let encrypted = stage.name("oci:", &format!("encrypted{number}:v1"));
        stage.encrypt(source, &encrypted).ok();
        let back = stage.name("oci:", &format!("back{number}"));
        stage.decrypt(&encrypted, &back).ok();
        let back = Layout::open(stage.at(&format!("back{number}")));
        let expected: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        assert_eq!(back.archives("amd64"), expected);
    }
    let output = stage.inspect(&format!("{saved}:other:v1")).run();
    assert_fails(
        &output,
        &[r#"no image tagged "other:v1""#, "example.test/app:v1"],
    );
    let output = stage.encrypt(&layout.reference(), &saved).run();
    assert_fails(&output, &["docker-archive:", "oci-archive:FILE"]);
}

#[test]
fn an_old_docker_archive_with_linked_and_with_compressed_layers() {
    let stage = Stage::new();
    let (plain, compressed) = (
        Layer::file("a", b"first", Compression::None),
        Layer::file("b", b"second", Compression::Gzip),
    );
    let diff_ids = [&plain.diff_id, &compressed.diff_id, &plain.diff_id];
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let list = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]);
    let mut archive = tar::Builder::new(File::create(stage.at("saved.tar")).unwrap());
    let mut file = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    file("1/layer.tar", &plain.blob);
    file("2/layer.tar", &compressed.blob);
    file("c.json", config.as_bytes());
    file("manifest.json", list.to_string().as_bytes());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive
        .append_link(&mut link, "3/layer.tar", "../1/layer.tar")
        .unwrap();
    archive.finish().unwrap();
    drop(archive);
    let report: Value = serde_json::from_slice(
        &stage
            .inspect(&stage.name("docker-archive:", "saved.tar"))
            .ok()
            .stdout,
    )
    .unwrap();
    let layers = report["images"][0]["layers"].as_array().unwrap();
    assert_eq!(layers[0]["digest"], plain.diff_id);
    assert_eq!(layers[1]["digest"], digest(&compressed.blob));
    assert_eq!(layers[2]["digest"], plain.diff_id);
    stage
        .encrypt(
            &stage.name("docker-archive:", "saved.tar"),
            &stage.name("oci:", "out:v1"),
        )
        .ok();
}

#[test]
fn broken_archives_are_told() {
    let stage = Stage::new();
    let whole = stage.name("oci-archive:", "whole.tar:v1");
    stage.encrypt(&image("plain").reference(), &whole).ok();
    let bytes = fs::read(stage.at("whole.tar")).unwrap();
    let text = "no archive at all".repeat(100);
    for (name, content, part) in [
        ("empty", &b""[..], "it is empty"),
        ("text", text.as_bytes(), "tar archive"),
        ("cut", &bytes[..bytes.len() / 2], "it ends too soon"),
    ] {
        fs::write(stage.at(name), content).unwrap();
        let output = stage.inspect(&stage.name("oci-archive:", name)).run();
        assert_fails(&output, &["is not an archive of images", part]);
    }
    let output = stage
        .inspect(&stage.name("docker-archive:", "whole.tar"))
        .run();
    assert_fails(&output, &["manifest.json"]);
    let output = stage
        .inspect(&stage.name("oci-archive:", "absent.tar"))
        .run();
    assert_fails(&output, &["absent.tar", "no such file"]);
    // A pipe that nobody writes to must not be waited for.
    nix::unistd::mkfifo(&stage.at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = stage.inspect(&stage.name("oci-archive:", "pipe")).run();
    assert_fails(&output, &["a pipe"]);
}

#[test]
fn an_image_is_named_by_tag_digest_or_number() {
    let stage = Stage::new();
    let layout = image("plain").copy(stage.at("layout"));
    let place = layout.path().display().to_string();
    stage
        .encrypt(&format!("{place}:latest"), &format!("{place}:secret"))
        .ok();
    let digest = layout.entry("secret")["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    for name in [
        format!("{place}:secret"),
        format!("oci:{place}@1"),
        format!("{place}@{digest}"),
    ] {
        let report = stage.inspect(&name).ok().text();
        assert!(report.contains(&digest), "{name}: {report}");
    }
    assert_fails(
        &stage.inspect(&place).run(),
        &["2 images", r#""secret""#, "@0"],
    );
    assert_fails(
        &stage.inspect(&format!("{place}@2")).run(),
        &["has 2 entries", "the first image there is @0"],
    );
}

#[test]
fn a_wrong_transport_and_a_missing_one_are_told() {
    let stage = Stage::new();
    let output = stage.inspect("docker.io/library/busybox").run();
    assert_fails(
        &output,
        &[
            "there is no directory",
            "docker://docker.io/library/busybox",
        ],
    );
    let target = "localhost:5000/app:v1";
    let output = stage.encrypt(&image("plain").reference(), target).run();
    assert_fails(&output, &["docker://localhost:5000/app:v1"]);
    for name in ["containers-storage:busybox", "ftp://x"] {
        let output = stage.inspect(name).run();
        assert!(!output.status.success());
        for transport in ["oci:", "oci-archive:", "docker-archive:", "docker://"] {
            assert!(output.stderr.contains(transport), "{}", output.stderr);
        }
    }
}

/// A gzip stream becomes a thousand times as long.
#[test]
fn an_archive_that_would_fill_the_disk_is_not_unpacked() {
    let stage = Stage::new();
    let mut gzip = GzEncoder::new(
        File::create(stage.at("bomb.tgz")).unwrap(),
        flate2::Compression::fast(),
    );
    for _ in 0..96 {
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
    }
    gzip.finish().unwrap();
    for transport in ["oci-archive:", "docker-archive:"] {
        let output = stage.inspect(&stage.name(transport, "bomb.tgz")).run();
        assert_fails(
            &output,
            &["bomb.tgz is not unpacked", "100 times", "gunzip"],
        );
    }
    // One that is no longer than others, where there is no room for it.
    if !skip::root() {
        return;
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(20 << 20);
    let content = noise(20 << 20);
    builder.append_data(&mut header, "a", &content[..]).unwrap();
    fs::write(stage.at("large.tar"), builder.into_inner().unwrap()).unwrap();
    gzip_file(&stage, "large.tar", "large.tgz");
    fs::create_dir(stage.at("small")).unwrap();
    let mount = "mount -t tmpfs -o size=16m none \"$TMPDIR\" && exec \"$@\"";
    let output = Program::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            mount,
            "sh",
        ])
        .arg(integration::ocihsm())
        .args(["inspect", &stage.name("oci-archive:", "large.tgz")])
        .env("TMPDIR", stage.at("small"))
        .run();
    assert_fails(
        &output,
        &["large.tgz is not unpacked", "the room that is left"],
    );
}

/// The archive is not what is wrong then.
#[test]
fn a_temporary_directory_that_cannot_be_used_is_named() {
    let stage = Stage::new();
    fs::write(stage.at("a.tar"), noise(100)).unwrap();
    gzip_file(&stage, "a.tar", "a.tgz");
    let (archive, nowhere) = (stage.name("oci-archive:", "a.tgz"), stage.at("nowhere"));
    let output = stage.inspect(&archive).env("TMPDIR", &nowhere).run();
    let complaint = format!(
        "in the temporary directory {}: no such file or directory\n",
        nowhere.display()
    );
    assert_fails(&output, &[&complaint, "TMPDIR"]);
    // An empty one counts as none, and what comes of this stream is no archive.
    let output = stage.inspect(&archive).env("TMPDIR", "").run();
    assert_fails(&output, &["a.tgz is not an archive"]);
    // It is there, and takes no more while it is written to.
    fs::write(stage.at("large.tar"), noise(1 << 20)).unwrap();
    gzip_file(&stage, "large.tar", "large.tgz");
    let limited = "ulimit -f 256 && trap '' XFSZ && exec \"$@\"";
    let output = Program::new("bash")
        .args(["-c", limited, "bash"])
        .arg(integration::ocihsm())
        .args(["inspect", &stage.name("oci-archive:", "large.tgz")])
        .env("TMPDIR", stage.place.path())
        .run();
    let complaint = format!(
        "in the temporary directory {}: file too large",
        stage.place.path().display()
    );
    assert_fails(&output, &[&complaint]);
}

fn gzip_file(stage: &Stage, from: &str, to: &str) {
    gzip(&stage.at(from), &stage.at(to));
}

#[test]
fn a_number_or_a_digest_is_no_name_for_a_new_image() {
    let stage = Stage::new();
    let source = image("plain").reference();
    let digest = format!("sha256:{}", "ab".repeat(32));
    for transport in ["oci:", "oci-archive:"] {
        for selector in [
            "@5",
            "@0",
            &format!("@{digest}"),
            &format!(":v1@{digest}"),
            ":v1@5",
        ] {
            let target = stage.name(transport, "new") + selector;
            let output = stage.encrypt(&source, &target).run();
            assert_fails(&output, &["names no image to write", "oci:DIR:TAG"]);
            assert_eq!(names(stage.place.path()), [""; 0], "{target}");
        }
    }
    let target = format!("docker://127.0.0.1:1/a@{digest}");
    assert_fails(&stage.encrypt(&source, &target).run(), &["under a tag"]);
    for name in [format!("docker.io/library/a@{digest}"), digest] {
        let target = format!("containerd:{name}");
        let output = stage.encrypt(&source, &target).run();
        assert_fails(&output, &["names no image to write"]);
    }
}

/// As `ctr images export` names images: a tag that several may have, and a name that one has.
#[test]
fn containerds_name_for_an_image_is_taken_as_a_tag_is() {
    let stage = Stage::new();
    let layout = image("plain").copy(stage.at("layout"));
    let index = layout.path().join("index.json");
    let name = |index: &Path, number: usize, tag: &str, name: &str| {
        let mut json: Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
        let entries = json["manifests"].as_array_mut().unwrap();
        if entries.len() == number {
            entries.push(entries[0].clone());
        }
        entries[number]["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": name,
        });
        fs::write(index, json.to_string()).unwrap();
    };
    name(&index, 0, "latest", "test.example/a:latest");
    let before = fs::read(&index).unwrap();
    let place = layout.path().display().to_string();
    let target = format!("oci:{place}:test.example/a:latest");
    let output = stage.encrypt(&image("plain").reference(), &target).run();
    assert_fails(&output, &["test.example/a:latest", "already", "--force"]);
    assert_eq!(fs::read(&index).unwrap(), before);
    let printed = stage.encrypt(&image("plain").reference(), &target);
    let printed = printed.arg("--force").ok().text();
    assert_eq!(
        layout.entry("test.example/a:latest")["digest"],
        printed.trim_end()
    );
    let entries: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    assert_eq!(entries["manifests"].as_array().unwrap().len(), 1);

    // Two images of one tag: a new key for one of them must not be the end of the other.
    let encrypted = Layout::open(stage.at("encrypted"));
    stage
        .encrypt(&image("plain").reference(), &encrypted.reference())
        .ok();
    let index = encrypted.path().join("index.json");
    name(&index, 0, "latest", "test.example/a:latest");
    let place = encrypted.path().display().to_string();
    let other = recipient("other3072");
    let key = stage.token.key_file("rsa3072");
    let rekey = |source: &str| {
        let rekey = stage.ocihsm().args(["rekey", source, "--add", &other]);
        rekey.arg("--key").arg(&key)
    };
    let named = rekey(&format!("oci:{place}:test.example/a:latest"));
    let printed = named.ok().text();
    let entry = encrypted.entry("latest");
    assert_eq!(entry["digest"], printed.trim_end());
    assert_eq!(
        entry["annotations"]["io.containerd.image.name"],
        "test.example/a:latest"
    );
    name(&index, 1, "latest", "test.example/b:latest");
    let before = fs::read(&index).unwrap();
    for source in ["@0", ":test.example/b:latest"] {
        let output = rekey(&format!("oci:{place}{source}")).run();
        assert_fails(&output, &["2 images", "\"latest\"", "DST"]);
    }
    assert_eq!(fs::read(&index).unwrap(), before);
    fs::copy(encrypted.archive(), stage.at("many.tar")).unwrap();
    let before = fs::read(stage.at("many.tar")).unwrap();
    let output = rekey(&stage.name("oci-archive:", "many.tar@0")).run();
    assert_fails(&output, &["2 images", "DST"]);
    assert_eq!(fs::read(stage.at("many.tar")).unwrap(), before);
}
