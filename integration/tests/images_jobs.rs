//! Several layers at once: what comes of it, what it takes, and what is left when it fails or is stopped.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::registry::Registry;
use integration::skip;
use integration::stage::{Stage, assert_fails, digest_of, names};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use serde_json::Value;

const PLAIN_HTTP: &str = "--tls-verify=false";

/// An image of so many layers of so many MiB each, no two alike.
fn layers(stage: &Stage, count: u8, mib: usize) -> Layout {
    let one = |number: u8| {
        let mut content = noise(mib << 20);
        content[0] = number;
        Layer::file("a", &content, Compression::None)
    };
    let layers: Vec<_> = (0..count).map(one).collect();
    Layout::create(stage.at("source"), &layers, &["/a"])
}

fn docker(registry: &Registry, name: &str) -> String {
    format!("docker://{}/{name}:v1", registry.host())
}

#[test]
fn however_many_at_once_the_layers_stand_in_their_order() {
    let stage = Stage::new();
    let contents = [&[1; 9][..], &[2; 900], &[3; 90_000], &[4; 9], &[5; 90]];
    let layers = contents.map(|content| Layer::file("a", content, Compression::None));
    let source = Layout::create(stage.at("source"), &layers, &["/a"]);
    for jobs in ["1", "2", "8"] {
        let (encrypted, back) = (stage.name("", "encrypted"), stage.name("", "back"));
        let run = |program: Program| program.args(["--jobs", jobs]).ok();
        run(stage.encrypt(&source.reference(), &encrypted));
        Layout::open(&encrypted).assert_sound();
        let printed = run(stage.decrypt(&encrypted, &back));
        assert_eq!(printed.text().trim_end(), digest_of(&source), "{jobs}");
        for path in [encrypted, back] {
            fs::remove_dir_all(path).unwrap();
        }
    }
    for jobs in ["0", "x", "65"] {
        let program = stage.encrypt(&source.reference(), &stage.name("", "none"));
        assert_fails(&program.args(["--jobs", jobs]).run(), &["--jobs"]);
    }
}

#[test]
fn a_layer_that_is_damaged_ends_the_others_and_nothing_is_left() {
    let stage = Stage::new();
    let source = layers(&stage, 6, 8);
    let damaged = source.layers()[3]["digest"].as_str().unwrap().to_owned();
    let path = source.blob(&damaged);
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    for target in ["", "oci-archive:"] {
        let target = stage.name(target, "target");
        let program = stage.encrypt(&source.reference(), &target);
        let output = program.args(["--jobs", "4"]).run();
        assert_fails(&output, &[&damaged[..19], "is damaged"]);
        assert_eq!(names(stage.place.path()), ["source"]);
    }
}

/// The most memory that a process had, in KiB.
fn peak(program: Program) -> (u64, Output) {
    let mut command = program.into_command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        });
        most = most.max(line.unwrap_or(0));
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    (
        most,
        Output::new(output.status, output.stdout, &output.stderr),
    )
}

/// From layout to layout, from registry to registry, and there under new keys: whatever a layer's length, four at once
/// are held in 64 MiB, and what is read from a registry is put into no file.
#[test]
fn four_layers_at_once_take_little_memory_and_no_disk() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let source = layers(&stage, 4, 24);
    let registry = Registry::start();
    registry.push(&source, "source");
    let nowhere = stage.at("tmp");
    fs::create_dir(&nowhere).unwrap();
    let at = |name: &str| docker(&registry, name);
    let plain = format!("docker://{}/source:latest", registry.host());
    let key = stage.token.key_file("rsa3072");
    let key = ["--key", key.to_str().unwrap()];
    let layout = stage.name("", "target");
    let programs = [
        stage.encrypt(&source.reference(), &layout),
        stage.encrypt(&plain, &at("encrypted")).arg(PLAIN_HTTP),
        stage
            .encrypt(&at("encrypted"), &at("anew"))
            .args([PLAIN_HTTP, "--anew"])
            .args(key),
        stage.decrypt(&at("anew"), &at("back")).arg(PLAIN_HTTP),
    ];
    for program in programs {
        // No file may have more than a few bytes but where a layout is meant.
        let to_layout = format!("{program:?}").contains(&layout);
        let program = program.args(["--jobs", "4"]).env("TMPDIR", &nowhere);
        let program = match to_layout {
            true => program,
            false => limited(program),
        };
        let (most, output) = peak(program);
        assert!(output.status.success(), "{}", output.stderr);
        println!("{most} KiB");
        assert!(most > 1 << 10 && most < 64 << 10, "{most} KiB");
    }
    let back = stage
        .ocihsm()
        .args(["inspect", &at("back"), "--json", PLAIN_HTTP])
        .ok();
    let report: Value = serde_json::from_slice(&back.stdout).unwrap();
    assert_eq!(report["digest"], digest_of(&source));
    assert_eq!(names(&nowhere), [""; 0]);
}

/// The same program, which cannot write a file of more than 64 KiB.
fn limited(program: Program) -> Program {
    let command = program.into_command();
    let mut limited = Program::new("prlimit").arg("--fsize=65536");
    limited = limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited = limited.env(name, value.unwrap());
    }
    limited
}

/// An image of three layers of 4 GiB, of zeros, which take no space on disk. Their digests are wrong, which is seen at
/// their ends.
fn endless(stage: &Stage) -> Layout {
    let layers = [b"a", b"b", b"c"].map(|it| Layer::file("a", it, Compression::None));
    let source = Layout::create(stage.at("source"), &layers, &["/a"]);
    let mut manifest = source.manifest("amd64");
    for layer in manifest["layers"].as_array_mut().unwrap() {
        let blob = source.blob(layer["digest"].as_str().unwrap());
        File::create(blob)
            .and_then(|file| file.set_len(4 << 30))
            .unwrap();
        layer["size"] = (4_u64 << 30).into();
    }
    let mut entry = source.put(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(source.path().join("index.json"), index.to_string()).unwrap();
    source
}

fn begun(program: Program, is_under_way: impl Fn() -> bool) -> Child {
    let mut command: Command = program.into_command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(240);
    while !is_under_way() {
        assert!(Instant::now() < deadline, "nothing is being written");
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

fn stopped(child: Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("stopped by a signal"), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// How many files of the private directory beside a target have bytes in them.
fn written(place: &Path) -> usize {
    let hidden = |name: &String| name.starts_with('.');
    let mut count = 0;
    let mut look = names(place)
        .into_iter()
        .filter(hidden)
        .map(|name| place.join(name))
        .collect::<Vec<_>>();
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(it) if it.is_dir() => look.push(entry.path()),
                Ok(it) if it.len() > 0 => count += 1,
                _ => {}
            }
        }
    }
    count
}

#[test]
fn a_signal_among_several_layers_leaves_no_file() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for transport in ["oci:", "oci-archive:"] {
            let stage = Stage::new();
            let source = endless(&stage);
            let target = stage.name(transport, "target");
            let program = stage.encrypt(&source.reference(), &target);
            let program = program.args(["--jobs", "3"]);
            let child = begun(program, || written(stage.place.path()) == 3);
            stopped(child, signal);
            assert_eq!(names(stage.place.path()), ["source"], "{transport}");
        }
    }
}

#[test]
fn a_signal_while_an_archive_is_put_together_leaves_no_file() {
    let stage = Stage::new();
    let source = layers(&stage, 2, 30);
    let target = stage.name("oci-archive:", "target");
    let place = stage.place.path();
    let program = stage.encrypt(&source.reference(), &target);
    let is_put_together = || {
        let mut hidden = names(place).into_iter().filter(|it| it.starts_with('.'));
        hidden.any(|name| place.join(name).join("archive").exists())
    };
    let child = begun(program, is_put_together);
    stopped(child, Signal::SIGINT);
    assert_eq!(names(place), ["source"]);
}

#[test]
fn a_signal_on_the_way_to_a_registry_leaves_no_tag_and_no_upload() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let source = endless(&stage);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let registry = Registry::start();
        let program = stage.encrypt(&source.reference(), &docker(&registry, "new"));
        let program = program.args([PLAIN_HTTP, "--jobs", "3"]);
        let child = begun(program, || registry.uploads("new") == 3);
        thread::sleep(Duration::from_millis(300));
        stopped(child, signal);
        assert!(!registry.has_tag("new", "v1"));
        assert_eq!(registry.uploads("new"), 0);
        assert_eq!(names(stage.place.path()), ["source"]);
    }
}

#[test]
fn a_signal_behind_the_tag_takes_nothing_back_and_says_nothing_else() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let program = stage.encrypt(&layers(&stage, 1, 1).reference(), &docker(&registry, "new"));
    // Its output is full, so that it waits with the digest.
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut full = File::from(write);
    full.write_all(&[0; 64 << 10]).unwrap();
    let mut command: Command = program.args([PLAIN_HTTP]).into_command();
    command.stdin(Stdio::null()).stdout(full);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !registry.has_tag("new", "v1") {
        assert!(Instant::now() < deadline, "there is no tag");
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(300));
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    // Longer than whoever waits is given.
    thread::sleep(Duration::from_secs(6));
    let mut printed = Vec::new();
    File::from(read).read_to_end(&mut printed).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("nothing was written"), "{stderr}");
    assert!(printed[64 << 10..].starts_with(b"sha256:"));
    assert!(registry.has_tag("new", "v1"));
}
