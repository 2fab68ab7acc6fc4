//! A signal while something is waited for that does not come: it is heard within seconds, and leaves no tag, no upload and no file.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::Program;
use integration::proxy::{Fate, Proxy};
use integration::registry::Registry;
use integration::skip;
use integration::stage::{Stage, names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PLAIN_HTTP: &str = "--tls-verify=false";
/// What it may take to end on a machine that has much to do. Without a signal it takes a minute and more.
const SOON: Duration = Duration::from_secs(8);

fn source(stage: &Stage) -> Layout {
    let layers = [
        Layer::file("a", &noise(8 << 20), Compression::None),
        Layer::file("b", b"small", Compression::None),
    ];
    Layout::create(stage.at("source"), &layers, &["/a"])
}

/// Sends a signal once `is_waiting`, and returns what was said until the end, which comes soon.
fn stopped(program: Program, is_waiting: impl Fn() -> bool) -> String {
    let mut command = program.into_command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child: Child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_waiting() {
        assert!(Instant::now() < deadline, "it waits for nothing");
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    let took = asked.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.contains("stopped by a signal"), "{stderr}");
    println!("{took:.2?}");
    assert!(took < SOON, "{took:?}");
    stderr
}

/// A proxy that does this with requests whose first line has these parts.
fn proxy(registry: &Registry, parts: &'static [&'static str], fate: Fate) -> Proxy {
    Proxy::start(registry.host(), move |line, _| {
        match parts.iter().all(|part| line.contains(part)) {
            true => fate.clone(),
            false => Fate::Pass,
        }
    })
}

fn met(proxy: &Proxy, parts: &[&str]) -> bool {
    let requests = proxy.requests();
    requests
        .iter()
        .any(|line| parts.iter().all(|part| line.contains(part)))
}

#[test]
fn a_registry_that_gives_nothing_more() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let source = source(&stage);
    let registry = Registry::start();
    registry.push(&source, "app");
    let busy = "503 No\r\nretry-after: 30\r\ncontent-length: 0".to_owned();
    let layer = source.layers()[0]["digest"].as_str().unwrap().to_owned();
    let layer: &'static [&'static str] = Box::leak(Box::new(["GET", &*layer.leak()]));
    for fate in [Fate::Stall, Fate::StallAnswer(1 << 20), Fate::Answer(busy)] {
        let proxy = proxy(&registry, layer, fate);
        let from = format!("docker://{}/app:latest", proxy.host());
        for target in ["oci:", "oci-archive:"] {
            let program = stage.encrypt(&from, &stage.name(target, "new"));
            stopped(program.arg(PLAIN_HTTP), || met(&proxy, layer));
            assert_eq!(names(stage.place.path()), ["source"]);
        }
    }
}

#[test]
fn a_registry_that_takes_nothing_more() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let source = source(&stage);
    let busy = "429 No\r\nretry-after: 30\r\ncontent-length: 0".to_owned();
    let cases: [(&[&str], Fate); 5] = [
        (&["PATCH"], Fate::Stall),
        (&["PATCH"], Fate::Answer(busy)),
        (&["PUT", "/blobs/"], Fate::Stall),
        (&["POST"], Fate::Stall),
        (&["PUT", "/manifests/v1"], Fate::Stall),
    ];
    for (parts, fate) in cases {
        let registry = Registry::start();
        let proxy = proxy(&registry, parts, fate);
        let target = format!("docker://{}/new:v1", proxy.host());
        let program = stage.encrypt(&source.reference(), &target).arg(PLAIN_HTTP);
        let said = stopped(program, || met(&proxy, parts));
        let is_named = parts.contains(&"/manifests/v1");
        assert_eq!(said.contains("may be there"), is_named, "{said}");
        assert!(!registry.has_tag("new", "v1"));
        assert_eq!(registry.uploads("new"), 0, "{parts:?}");
        assert_eq!(names(stage.place.path()), ["source"]);
    }
}

/// Docker's registry does not give up an upload of which it has half a chunk.
#[test]
fn a_registry_that_has_half_a_chunk() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let proxy = proxy(
        &registry,
        &["PATCH"],
        Fate::Pause(Duration::from_millis(500)),
    );
    let target = format!("docker://{}/new:v1", proxy.host());
    let layer = Layer::file("a", &noise(8 << 20), Compression::None);
    let source = Layout::create(stage.at("source"), &[layer], &["/a"]);
    let program = stage.encrypt(&source.reference(), &target);
    let half = || met(&proxy, &["PATCH"]) && registry.uploads("new") > 0;
    stopped(program.arg(PLAIN_HTTP), half);
    assert!(!registry.has_tag("new", "v1"));
    assert_eq!(registry.uploads("new"), 0);
}

/// The registry took the tag; that its answer was lost, and that to connect hears no signal, makes nobody say otherwise.
#[test]
fn a_registry_that_leaves_with_the_tag() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let parts = &["PUT", "/manifests/v1"];
    let proxy = proxy(&registry, parts, Fate::PassAndLeave);
    let target = format!("docker://{}/new:v1", proxy.host());
    let program = stage.encrypt(&source(&stage).reference(), &target);
    let is_tagged = || {
        let has_tag = registry.has_tag("new", "v1");
        thread::sleep(Duration::from_secs(u64::from(has_tag)));
        has_tag
    };
    let said = stopped(program.arg(PLAIN_HTTP), is_tagged);
    assert!(said.contains("may be there"), "{said}");
}

/// Whoever stands between says that the registry did not answer in time; but the tag is there.
#[test]
fn a_tag_that_a_registry_took_without_saying_so_is_looked_for() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let source = source(&stage);
    let registry = Registry::start();
    for (number, answer) in ["504 Late", "500 No"].into_iter().enumerate() {
        let fate = Fate::PassAndAnswer(format!("{answer}\r\ncontent-length: 0"));
        let proxy = proxy(&registry, &["PUT", "/manifests/v1"], fate);
        let target = format!("docker://{}/new{number}:v1", proxy.host());
        let program = stage.encrypt(&source.reference(), &target);
        program.arg(PLAIN_HTTP).ok();
        assert!(registry.has_tag(&format!("new{number}"), "v1"));
    }
}

/// To connect hears no signal: what was begun on disk is removed, and the rest left behind.
#[test]
fn somebody_who_does_not_pick_up() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    registry.push(&source(&stage), "app");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody takes these, and the system keeps no more of them.
    let mut waiting = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(one);
    }
    let answer = format!("307 There\r\nlocation: http://{address}/x\r\ncontent-length: 0");
    let parts = &["GET", "/blobs/"];
    let proxy = Proxy::start(registry.host(), move |line, count| {
        // The config is read before anything is written.
        match parts.iter().all(|part| line.contains(part)) && count > 3 {
            true => Fate::Answer(answer.clone()),
            false => Fate::Pass,
        }
    });
    let from = format!("docker://{}/app:latest", proxy.host());
    let program = stage.encrypt(&from, &stage.name("oci:", "new"));
    let is_waiting = || {
        let hidden = names(stage.place.path());
        hidden.iter().any(|name| name.starts_with(".ocihsm-"))
    };
    stopped(program.arg(PLAIN_HTTP), is_waiting);
    assert_eq!(names(stage.place.path()), ["source"]);
}
