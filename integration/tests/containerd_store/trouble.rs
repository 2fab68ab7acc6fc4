//! What is missing or damaged in containerd, what ends midway, and what is too large to be held.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use integration::layout::Layout;
use integration::ocihsm;
use integration::program::Program;
use integration::root::Root;
use integration::vector;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::stage::{ENCRYPTED, PLAIN, Stage, assert_fails, at, large};

#[test]
fn a_layer_that_is_not_there_or_damaged_is_told_of() {
    Root::on_each_containerd(|root| {
        let (stage, plain) = Stage::with_image(root);
        stage.encrypt(&at(PLAIN), &at(ENCRYPTED)).ok();
        let digest = plain.layers()[1]["digest"].as_str().unwrap().to_owned();
        // Written by whoever can write there; containerd does not look.
        let blob = stage.containerd.blob(&digest);
        let before = std::fs::read(&blob).unwrap();
        let mut bytes = before.clone();
        bytes[600] ^= 1;
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, &bytes).unwrap();
        let encrypt = || stage.encrypt(&at(PLAIN), &at("new")).run();
        let decrypt = || stage.decrypt(&at(ENCRYPTED), &at("new"), "rsa3072").run();
        let copy = format!("{}", stage.at("copy").display());
        for output in [
            encrypt(),
            // Its plain layer is there already, so it is not written.
            decrypt(),
            stage.encrypt(&at(PLAIN), &copy).run(),
        ] {
            assert_fails(&output, &["damaged", &digest[7..19]]);
        }
        assert!(!stage.at("copy").exists());
        std::fs::write(&blob, &before).unwrap();

        stage.containerd.ctr(&["content", "remove", &digest]).ok();
        let parts = ["is not in containerd's content store", &digest[7..19]];
        assert_fails(&encrypt(), &parts);
        assert_fails(&encrypt(), &["content fetch"]);
        assert_eq!(stage.images(), [ENCRYPTED, PLAIN]);
        stage.assert_idle();
        assert!(decrypt().status.success());
    });
}

#[test]
fn what_ends_midway_leaves_no_image_and_nothing_for_ever() {
    let (_place, plain) = large();
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        for signal in [Signal::SIGINT, Signal::SIGKILL] {
            let mut child = stage
                .encrypt(&plain.reference(), &at(ENCRYPTED))
                .into_command()
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let patience = Instant::now() + Duration::from_secs(60);
            while stage.lines(&["content", "active"]).len() < 2 {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < patience, "{ended:?}");
                thread::sleep(Duration::from_millis(5));
            }
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            assert!(!child.wait_with_output().unwrap().status.success());
            assert_eq!(stage.images(), [""; 0]);
            if signal == Signal::SIGINT {
                stage.assert_idle();
            }
        }
        // Nobody could clean up. The lease holds its ingest, and ends by itself.
        let leases = stage.lines(&["leases", "list"]);
        assert_eq!(leases.len(), 2, "{leases:?}");
        assert!(leases[1].contains("containerd.io/gc.expire="), "{leases:?}");
        let lease = leases[1].split_whitespace().next().unwrap();
        let delete = ["leases", "delete", "--sync", lease];
        stage.containerd.ctr(&delete).ok();
        stage.assert_idle();
        assert_eq!(stage.content(), [""; 0]);
    });
}

/// It is heard at once. A lease that containerd did not end is told; it may hear of it when it goes on.
#[test]
fn a_signal_is_heard_while_containerd_does_not_answer() {
    let (_place, plain) = large();
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        let output = stage.containerd.import(&plain.archive(), "app");
        assert!(output.status.success(), "{output:?}");
        let target = stage.at("layout").display().to_string();
        for (from, to) in [
            (plain.reference(), at(ENCRYPTED)),
            (at(PLAIN), target.clone()),
        ] {
            let mut child = stage
                .encrypt(&from, &to)
                .into_command()
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let is_under_way = || match to.starts_with("containerd:") {
                true => stage.lines(&["content", "active"]).len() > 1,
                false => std::fs::read_dir(stage.place.path()).unwrap().count() > 0,
            };
            let patience = Instant::now() + Duration::from_secs(60);
            while !is_under_way() {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none() && Instant::now() < patience, "{ended:?}");
                thread::sleep(Duration::from_millis(1));
            }
            stage.containerd.hold(true);
            thread::sleep(Duration::from_millis(300));
            let ended = child.try_wait().unwrap();
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            let asked = Instant::now();
            let output = child.wait_with_output().unwrap();
            let took = asked.elapsed();
            stage.containerd.hold(false);
            assert!(ended.is_none(), "it ended too soon: {output:?}");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("stopped by a signal"), "{stderr}");
            assert!(took < Duration::from_secs(8), "{took:?}");
            assert_eq!(stage.images(), [PLAIN]);
            assert!(!stage.at("layout").exists());
            assert_eq!(std::fs::read_dir(stage.place.path()).unwrap().count(), 0);
            println!("{took:.2?}");
            let patience = Instant::now() + Duration::from_secs(30);
            loop {
                let left = stage.lines(&["leases", "list", "--quiet"]);
                for lease in &left {
                    let told = format!("lease {lease} is left");
                    assert!(stderr.contains(&told), "{stderr}");
                    let delete = ["leases", "delete", "--sync", lease];
                    let _ = stage.containerd.ctr(&delete).run();
                }
                stage.collect();
                if left.is_empty() && stage.lines(&["content", "active"]).len() == 1 {
                    break;
                }
                assert!(Instant::now() < patience, "something is left: {left:?}");
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
}

/// The lease is there, and its answer is on the way: it is ended like one whose answer came, or told of.
#[test]
fn a_lease_whose_answer_comes_after_a_signal_is_ended() {
    let source = Layout::open(vector("images/plain"));
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        for come in [true, false] {
            let socket = stage.at(&format!("late-{come}"));
            let late = Late::start(&stage.containerd.socket(), &socket);
            // Not another question before the one for the lease.
            let child = stage
                .encrypt(&source.reference(), &at("new"))
                .arg("--force")
                .env("CONTAINERD_ADDRESS", &late.socket)
                .into_command()
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let leases = || stage.lines(&["leases", "list", "--quiet"]);
            let patience = Instant::now() + Duration::from_secs(60);
            while leases() == [""; 0] {
                assert!(Instant::now() < patience, "there is no lease");
                thread::sleep(Duration::from_millis(5));
            }
            late.answers_come.store(come, Ordering::SeqCst);
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            stage.assert_idle();
            let is_told = stderr.contains("lease ocihsm-") && stderr.contains("is left");
            assert_eq!(is_told, !come, "{stderr}");
            assert!(stderr.contains("error: stopped by a signal"), "{stderr}");
        }
    });
}

/// What stands between a client and containerd, and keeps what containerd says.
struct Late {
    socket: PathBuf,
    /// Whether it is passed on, as soon as the client says something more.
    answers_come: Arc<AtomicBool>,
}

impl Late {
    fn start(containerd: &Path, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let this = Self {
            socket: socket.to_owned(),
            answers_come: Arc::default(),
        };
        let (containerd, come) = (containerd.to_owned(), Arc::clone(&this.answers_come));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect(&containerd).unwrap();
                let (said, more) = mpsc::channel::<()>();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = more.recv();
                    let _ = io::copy(&mut from, &mut to);
                });
                let (mut from, mut to, come) = (client, server, Arc::clone(&come));
                thread::spawn(move || {
                    let mut buffer = [0; 1 << 14];
                    while let Ok(read @ 1..) = from.read(&mut buffer) {
                        let _ = to.write_all(&buffer[..read]);
                        if come.load(Ordering::SeqCst) {
                            let _ = said.send(());
                        }
                    }
                });
            }
        });
        this
    }
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let (_place, plain) = large();
    Root::on_each_containerd(|root| {
        let stage = Stage::new(root);
        let output = stage.containerd.import(&plain.archive(), "app");
        assert!(output.status.success(), "{output:?}");
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        let limited = |args: &[&str]| {
            Program::new("prlimit")
                .arg("--data=67108864")
                .arg(ocihsm())
                .args(args)
                .env("OCICRYPT_CONFIG", "internal")
                .env("OCIHSM_RUNTIME_DIR", stage.token.runtime())
                .env("CONTAINERD_ADDRESS", stage.containerd.socket())
                .env("CONTAINERD_NAMESPACE", stage.containerd.namespace())
        };
        let (plain, encrypted) = (at(PLAIN), at(ENCRYPTED));
        limited(&["encrypt", &plain, &encrypted, "--recipient", &recipient]).ok();
        limited(&["decrypt", &encrypted, &at("back"), "--key"])
            .arg(stage.token.key_file("rsa3072"))
            .ok();
    });
}

#[test]
fn where_no_containerd_is() {
    let place = TempDir::new().unwrap();
    let inspect = |socket: &str| {
        let socket = place.path().join(socket);
        Program::new(ocihsm())
            .args(["inspect", "containerd:app"])
            .env("CONTAINERD_ADDRESS", socket)
            .run()
    };
    assert_fails(&inspect("none"), &["cannot reach", "CONTAINERD_ADDRESS"]);
    // Somebody who listens and says nothing that makes sense.
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("other")).unwrap();
    let answer = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    assert_fails(&inspect("other"), &["containerd at", "cannot"]);
    answer.join().unwrap();
}
