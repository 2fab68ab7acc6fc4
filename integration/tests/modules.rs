//! One suite on each module that we support: SoftHSM, openCryptoki, a TPM, p11-kit remoting, Kryoptic.
//!
//! `OCIHSM_TEST_MODULES=softhsm,tpm2` limits it. The set-up of each is a script in `integration/modules`. A table of
//! what each did is printed at the end of its test.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use integration::module::{Module, PIN, WRONG_PIN};
use integration::program::Program;
use integration::token::SOFTHSM;
use integration::unruly::Unruly;
use integration::unwrapping::{Unwrapping, wrap};
use ocihsm::cipher;
use ocihsm::envelope::{Envelope, Scheme};
use ocihsm::keys::public::PublicKey;
use ocihsm::keys::public::Recipient;
use ocihsm::operation::OaepHash;
use ocihsm::options::CipherName;
use ocihsm::schemes::pkcs11;
use tempfile::TempDir;

/// What a module is known to do its own way.
struct Manner {
    /// How a blob with SHA-256 is opened.
    sha256: &'static str,
    /// How many processes it serves at once.
    at_once: usize,
}

#[test]
fn softhsm() {
    suite(
        "softhsm",
        &Manner {
            sha256: "RawRsa",
            at_once: 64,
        },
    );
}

#[test]
fn opencryptoki() {
    suite(
        "opencryptoki",
        &Manner {
            sha256: "Native",
            at_once: 64,
        },
    );
}

/// swtpm serves one connection, so there is no second process at once.
#[test]
fn tpm2() {
    suite(
        "tpm2",
        &Manner {
            sha256: "Native",
            at_once: 1,
        },
    );
}

#[test]
fn p11_kit() {
    suite(
        "p11-kit",
        &Manner {
            sha256: "RawRsa",
            at_once: 64,
        },
    );
}

#[test]
fn kryoptic() {
    suite(
        "kryoptic",
        &Manner {
            sha256: "Native",
            at_once: 64,
        },
    );
}

/// p11-kit has no word for a server that is not there: it lists no slots. A listing that trusts the number of slots
/// spins then.
#[test]
fn p11_kit_without_its_server_or_token_lists_no_slots() {
    let Some(module) = Module::up("p11-kit") else {
        return;
    };
    let run = |address: &Path| {
        let address = format!("unix:path={}", address.display());
        let unwrapping = Unwrapping::new()
            .env([("P11_KIT_SERVER_ADDRESS".to_owned(), address)])
            .key(&module.uri("rsa2048", PIN), module.library())
            .envelope(&[Recipient {
                hash: OaepHash::Sha1,
                blob: vec![1; 256],
            }]);
        let start = Instant::now();
        let answer = unwrapping.run();
        assert!(start.elapsed() < Duration::from_secs(20), "{answer:?}");
        let refusals = answer.refusals();
        assert!(refusals[0].contains("lists no slots at all"), "{answer:?}");
    };
    run(&module.directory().join("nobody-listens"));

    // The server stays in the background, and keeps what it was given as standard output.
    let socket = module.directory().join("other-socket");
    let said = module.directory().join("other-server");
    Program::new("sh")
        .args([
            "-c",
            "exec p11-kit server --name $0 --provider $1 pkcs11:token=doesnotexist >$2 2>&1",
        ])
        .args([&socket, Path::new(SOFTHSM), &said])
        .env("SOFTHSM2_CONF", module.directory().join("softhsm2.conf"))
        .ok();
    run(&socket);
    let said = fs::read_to_string(said).unwrap();
    let process = said.split("P11_KIT_SERVER_PID=").nth(1).unwrap();
    Program::new("kill")
        .arg(process.split(';').next().unwrap().trim())
        .ok();
}

fn suite(name: &str, manner: &Manner) {
    let Some(module) = Module::up(name) else {
        return;
    };
    let stage = Stage {
        public: public_key(&module, "rsa2048"),
        other: public_key(&module, "other"),
        module,
    };
    opens_both_hashes(&stage, manner);
    opens_by_raw_rsa_where_told_so(&stage);
    refuses_what_does_not_fit(&stage);
    finds_no_absent_token(&stage);
    decodes(&stage);
    spends_one_try_on_a_wrong_pin(&stage);
    let ms = serves_many_at_once(&stage, manner);
    println!(
        "| {name} | SHA-1 native | SHA-256 {} | {} at once in {ms} ms |",
        manner.sha256, manner.at_once
    );
}

struct Stage {
    module: Module,
    public: PathBuf,
    other: PathBuf,
}

impl Stage {
    fn mine(&self, hash: OaepHash) -> Recipient {
        wrap(&self.public, hash)
    }

    fn others(&self, hash: OaepHash) -> Recipient {
        wrap(&self.other, hash)
    }
}

/// Reads it from the token, without a login.
fn public_key(module: &Module, key: &str) -> PathBuf {
    let answer = module.unwrapping(key, WRONG_PIN).public_key();
    let path = module.directory().join(format!("{key}.pub.pem"));
    fs::write(&path, answer.pem().unwrap_or_else(|| panic!("{answer:?}"))).unwrap();
    path
}

fn opens_both_hashes(stage: &Stage, manner: &Manner) {
    let answer = stage
        .module
        .unwrapping("rsa2048", PIN)
        .envelope(&[stage.mine(OaepHash::Sha1)])
        .envelope(&[stage.mine(OaepHash::Sha256)])
        .run();
    assert_eq!(
        answer.opened(),
        [Some("Native"), Some(manner.sha256)],
        "{answer:?}"
    );
}

/// As if the token had refused the mechanism for OAEP.
fn opens_by_raw_rsa_where_told_so(stage: &Stage) {
    let unruly = Unruly::new();
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let answer = behind(
            stage,
            &unruly,
            PIN,
            &[("UNRULY_FAULTS", "C_DecryptInit=0x70*1")],
        )
        .envelope(&[stage.mine(hash)])
        .run();
        assert_eq!(answer.opened(), [Some("RawRsa")], "{answer:?}");
    }
}

/// And opens what comes behind it: a TPM's session is of no use after a failed decryption.
fn refuses_what_does_not_fit(stage: &Stage) {
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let mut flipped = stage.mine(hash);
        flipped.blob[100] ^= 0x10;
        let zero = Recipient {
            hash,
            blob: vec![0; 256],
        };
        let large = Recipient {
            hash,
            blob: vec![0xff; 256],
        };
        let bad = [stage.others(hash), flipped, zero, large];
        let answer = stage.module.unwrapping("rsa2048", PIN).envelope(&bad).run();
        assert_eq!(answer.opened(), [None], "{answer:?}");
        assert!(
            answer.refusals()[0].contains("does not open it"),
            "{answer:?}"
        );

        let mut all = bad.to_vec();
        all.push(stage.mine(hash));
        let answer = stage.module.unwrapping("rsa2048", PIN).envelope(&all).run();
        assert_eq!(answer.by(), (Some(0), Some(4)), "{answer:?}");
    }
}

fn finds_no_absent_token(stage: &Stage) {
    let mut unwrapping = stage
        .module
        .unwrapping("rsa2048", PIN)
        .envelope(&[stage.others(OaepHash::Sha1)]);
    let library = stage.module.library();
    unwrapping.add_key(
        &format!("pkcs11:token=absent;object=key?pin-value={PIN}"),
        library,
    );
    unwrapping.add_key(&stage.module.uri("absent", PIN), library);
    let answer = unwrapping.run();
    let refusals = answer.refusals();
    assert!(
        refusals[1].contains("no token matches pkcs11:token=absent"),
        "{refusals:?}"
    );
    assert!(
        refusals[2].contains("token \"kbs\" holds no key"),
        "{refusals:?}"
    );
}

fn decodes(stage: &Stage) {
    let plain = b"a layer of no media type in particular".repeat(5000);
    let directory = TempDir::new().unwrap();
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let mut blob = Vec::new();
        let sealed = cipher::encrypt(
            CipherName::Aes256CtrHmacSha256,
            Cursor::new(&plain),
            &mut blob,
        )
        .unwrap();
        let recipient = PublicKey::read(&stage.public)
            .unwrap()
            .wrap(hash, &sealed.private_options)
            .unwrap();
        let mut envelope = Envelope::new(sealed.public_options);
        envelope.push(Scheme::pkcs11(), &pkcs11::to_json(&[recipient]));
        let mut annotations = Default::default();
        envelope.write_to(&mut annotations);

        let unwrapping = stage.module.unwrapping("rsa2048", PIN);
        let policy = directory.path().join("ocicrypt.conf");
        let library = stage.module.library().display();
        fs::write(
            &policy,
            format!("pkcs11:\n  allowed-module-paths:\n    - {library}\n"),
        )
        .unwrap();
        let output = stage
            .module
            .program(&integration::ocihsm())
            .arg("decode")
            .arg("--decryption-keys-path")
            .arg(unwrapping.key_file())
            .args(
                annotations
                    .iter()
                    .map(|(name, value)| format!("--annotation={name}={value}")),
            )
            .arg("--media-type=application/vnd.oci.image.layer.v1.tar+encrypted")
            .env("OCICRYPT_CONFIG", &policy)
            .env("OCIHSM_RUNTIME_DIR", unwrapping.runtime_directory())
            .stdin(blob)
            .run();
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout == plain && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

fn spends_one_try_on_a_wrong_pin(stage: &Stage) {
    let unruly = Unruly::new();
    let unwrapping = behind(stage, &unruly, WRONG_PIN, &[]).envelope(&[
        stage.others(OaepHash::Sha1),
        stage.mine(OaepHash::Sha1),
        stage.mine(OaepHash::Sha256),
    ]);
    let first = unwrapping.run();
    assert!(
        first.error().ends_with(
            "token \"kbs\": login failed: the PIN is wrong (C_Login: CKR_PIN_INCORRECT)"
        ),
        "{first:?}"
    );
    let second = unwrapping.run();
    assert!(second.error().contains("is not tried again"), "{second:?}");
    assert_eq!(unruly.count("C_Login"), 1);
}

fn serves_many_at_once(stage: &Stage, manner: &Manner) -> u128 {
    let unwrapping = stage
        .module
        .unwrapping("rsa2048", PIN)
        .envelope(&[stage.mine(OaepHash::Sha256)]);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..manner.at_once {
            scope.spawn(|| {
                let answer = unwrapping.run();
                assert_eq!(answer.opened(), [Some(manner.sha256)], "{answer:?}");
            });
        }
    });
    start.elapsed().as_millis()
}

/// The module, behind one that counts calls and answers what it is told.
fn behind(stage: &Stage, unruly: &Unruly, pin: &str, more: &[(&str, &str)]) -> Unwrapping {
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = unruly.env(stage.module.library()).into_iter();
    stage.module.unwrapping_in(
        env.chain(stage.module.env().iter().cloned()).chain(more),
        &stage.module.uri("rsa2048", pin),
        &unruly.module(),
    )
}
