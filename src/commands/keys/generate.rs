//! `ocihsm keys generate`: a pair in a token, RSA or elliptic, and the two files that others need of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::new_file::NewFile;
use super::survey::{self, Survey};
use crate::commands::args::HsmArgs;
use crate::commands::pin::{GivenPin, PinArgs};
use crate::commands::print;
use crate::commands::progress::Waiting;
use crate::commands::{Error, Result, to_json};
use crate::hsm::{self, NewKey, Token};
use crate::keys::key_file::KeyFile;
use crate::keys::public::PublicKey;
use crate::keys::uri::Pkcs11Uri;
use crate::node::environment;
use crate::operation::Curve;
use crate::settings;

/// Size of an RSA key where none is asked for, in bits.
const DEFAULT_BITS: u32 = 3072;
/// Bytes of an id that is made here: none meets another by chance.
const ID_LEN: usize = 8;
/// Longest id that is taken, in bytes.
const MAX_ID_LEN: usize = 64;
/// Longest label, in bytes; it names the files too.
const MAX_LABEL_LEN: usize = 128;

/// Arguments of `keys generate`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Token to make the pair in
    #[arg(long, value_name = "LABEL|URI")]
    pub token: String,
    /// Label of the pair, and name of its files
    #[arg(long, value_name = "NAME")]
    pub label: KeyLabel,
    /// Kind of the key: rsa, which every scheme takes and most tokens have, or a curve, for images encrypted with JWE
    #[arg(long = "type", value_name = "rsa|p256|p384|p521", default_value = "rsa", value_parser = kind)]
    pub kind: NewKind,
    /// Size of an RSA key in bits [default: 3072]
    #[arg(long, value_name = "BITS", value_parser = bits)]
    pub bits: Option<u32>,
    /// Id of the pair (CKA_ID), hexadecimal [default: random]
    #[arg(long, value_name = "HEX")]
    pub id: Option<KeyId>,
    /// PKCS#11 module, by its path or by the name that a URI's module-name would give; else the one, of all that the
    /// module policy leads to, that shows the token
    #[arg(long, value_name = "NAME|PATH")]
    pub module: Option<String>,
    /// Where the PIN is.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Directory for NAME.pub.pem and NAME.yaml
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Replace these files if they are there
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
The private key is sensitive, cannot leave the token, and does nothing but decrypt, or agree on secrets if it is on a curve (in a TPM it also signs). NAME.pub.pem is for whoever \
encrypts images, NAME.yaml for the nodes that decrypt them; it names the PIN file, the module, and what the module \
takes from the environment. Without --pin-file and OCIHSM_PIN the PIN is asked for.

Examples:
  ocihsm keys generate --token prod --label imagekey
  ocihsm keys generate --token prod --label imagekey --pin-file pin --out keys --json
  ocihsm keys generate --token prod --label edge --type p256";

/// What kind of key: RSA, where there is no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKind(Option<Curve>);

/// A label that can name files as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLabel(String);

/// `CKA_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId(Vec<u8>);

pub(super) fn run(args: &Args) -> Result<()> {
    let bits = match (args.bits, args.kind.0) {
        (Some(_), Some(_)) => return Err(Error::SizeOfCurve),
        (bits, _) => bits.unwrap_or(DEFAULT_BITS),
    };
    let policy = survey::policy()?;
    let settings = args.hsm.settings();
    let token_uri = survey::token_uri(&args.token)?;
    let given = args.pin.given()?;
    let survey = Survey::new(&settings, &policy, args.module.as_deref(), &token_uri)?;
    let (module, token) = survey.only(&token_uri)?;
    refuse_known(token, &args.label)?;

    // Both can be written, or no key is made that nobody has a file for.
    let file = |ending, mode| {
        let path = args.out.join(format!("{}.{ending}", args.label));
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        NewFile::create(path, mode, args.force)
    };
    let public_file = file("pub.pem", 0o644)?;
    let key_file = file("yaml", 0o600)?;

    let pin = match given {
        None if token.needs_login && !token.has_pin_pad => {
            Some(args.pin.given_or_typed(&token.label)?)
        }
        given => given,
    };
    let new = NewKey {
        label: args.label.0.clone(),
        id: match &args.id {
            Some(id) => id.0.clone(),
            None => random_id()?,
        },
        bits,
        curve: args.kind.0,
    };
    let mut uri = Pkcs11Uri {
        id: Some(new.id.clone()),
        object: Some(new.label.clone()),
        object_type: Some("private".to_owned()),
        pin_source: pin.as_ref().and_then(|given| given.file.clone()),
        ..token_uri.clone()
    };
    survey::name_module(&policy, module, &mut uri);

    let token_key = survey::token_key(&token_uri, module, pin.as_ref());
    let waiting = Waiting::on(format!(
        "token {:?} makes {}: that may take half a minute",
        token.label,
        args.kind.described(bits)
    ));
    let public_key = hsm::generate(&settings, &token_key, &new)?;
    drop(waiting);
    let text = KeyFile {
        name: String::new(),
        uri: uri.clone(),
        pin_place: None,
        env: environment::of_module(module, settings::variable),
        init: None,
    }
    .to_yaml();
    let written = public_file
        .place(&public_key.to_pem())
        .and_then(|public_path| Ok((public_path, key_file.place(&text)?)));
    let (public_path, key_path) = written.map_err(|source| Error::KeyFilesUnwritten {
        uri: uri.to_string(),
        source: Box::new(source),
    })?;
    if args.json {
        return print(&to_json(&Report {
            version: 1,
            kind: args.kind.name(),
            bits: match &public_key {
                PublicKey::Rsa(key) => key.bits(),
                PublicKey::Ec(key) => key.curve().bits(),
            },
            token: &token.label,
            uri: uri.with_query(),
            public_key: public_path.display().to_string(),
            key_file: key_path.display().to_string(),
            pin_file: uri
                .pin_source
                .as_ref()
                .map(|path| path.display().to_string()),
        }));
    }
    print(&Made {
        kind: args.kind.described(bits),
        token,
        uri: &uri,
        public_path: &public_path,
        key_path: &key_path,
        pin: pin.as_ref(),
    })
}

/// What the token shows to everybody is enough to refuse most mistakes, before a PIN is asked for.
fn refuse_known(token: &Token, label: &KeyLabel) -> Result<()> {
    let known = token.keys.iter().flatten().any(|key| key.label == label.0);
    if known {
        return Err(Error::Hsm(hsm::Error::KeyExists {
            token: token.label.clone(),
            key: format!("the label {:?}", label.0),
        }));
    }
    Ok(())
}

fn random_id() -> Result<Vec<u8>> {
    let mut id = vec![0; ID_LEN];
    getrandom::fill(&mut id).map_err(|source| Error::Random { source })?;
    Ok(id)
}

/// What was made, for programs; `docs/schemas/keys-generate.json` describes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    version: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    bits: u32,
    token: &'a str,
    uri: String,
    public_key: String,
    key_file: String,
    /// The file that the key file names; without one it has to be given a PIN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_file: Option<String>,
}

/// What was made, for whoever asked for it.
struct Made<'a> {
    kind: String,
    token: &'a Token,
    uri: &'a Pkcs11Uri,
    public_path: &'a Path,
    key_path: &'a Path,
    pin: Option<&'a GivenPin>,
}

impl fmt::Display for Made<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (public_path, key_path) = (self.public_path.display(), self.key_path.display());
        writeln!(f, "made {} in token {:?}", self.kind, self.token.label)?;
        writeln!(f, "URI         {}", self.uri.with_query())?;
        writeln!(f, "public key  {public_path}, to encrypt with")?;
        write!(f, "key file    {key_path}, to decrypt with")?;
        if self.pin.is_some_and(|pin| pin.file.is_none()) {
            write!(
                f,
                "\nThe key file names no PIN: write it to a file that root alone can read, and append \
                 `&pin-source=/path/of/that/file` to the URI in {key_path}."
            )?;
        }
        Ok(())
    }
}

impl FromStr for KeyLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_LABEL_LEN {
            return Err(format!("expected 1 to {MAX_LABEL_LEN} bytes"));
        }
        if text.starts_with(['.', '-'])
            || text.contains(|char: char| char == '/' || char.is_control())
        {
            return Err(
                "it names files, so it has no `/` and begins with neither `.` nor `-`".to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let octets = text.as_bytes().chunks(2).map(|digits| {
            let digit = |at: usize| {
                digits
                    .get(at)
                    .and_then(|&digit| char::from(digit).to_digit(16))
            };
            Some((digit(0)? * 16 + digit(1)?) as u8)
        });
        match octets.collect::<Option<Vec<u8>>>() {
            Some(id) if (1..=MAX_ID_LEN).contains(&id.len()) => Ok(Self(id)),
            _ => Err(format!(
                "expected 1 to {MAX_ID_LEN} bytes, two hexadecimal digits each"
            )),
        }
    }
}

impl NewKind {
    /// What is made.
    fn described(self, bits: u32) -> String {
        match self.0 {
            None => format!("an RSA-{bits} pair"),
            Some(curve) => format!("a pair on {curve}"),
        }
    }

    /// As `--type` takes it.
    fn name(self) -> &'static str {
        match self.0 {
            None => "rsa",
            Some(Curve::P256) => "p256",
            Some(Curve::P384) => "p384",
            Some(Curve::P521) => "p521",
        }
    }
}

fn kind(text: &str) -> Result<NewKind, String> {
    Ok(NewKind(match text {
        "rsa" => None,
        "p256" => Some(Curve::P256),
        "p384" => Some(Curve::P384),
        "p521" => Some(Curve::P521),
        _ => return Err("expected rsa, p256, p384 or p521".to_owned()),
    }))
}

fn bits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(bits @ 2048..=16384) if bits % 256 == 0 => Ok(bits),
        _ => Err("expected 2048 to 16384, a multiple of 256".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_bytes() {
        assert_eq!("0aFF".parse(), Ok(KeyId(vec![0x0a, 0xff])));
        for text in ["", "0", "0a1", "0g", "+1", &"00".repeat(65)] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_stay_in_their_directory() {
        assert!("my key 1".parse::<KeyLabel>().is_ok());
        for text in ["", "../a", "/a", ".a", "-a", "a\nb", &"a".repeat(129)] {
            assert!(text.parse::<KeyLabel>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_too_small_to_encrypt_to_are_refused() {
        assert_eq!(bits("3072"), Ok(3072));
        for text in ["1024", "2047", "3000", "32768", "x"] {
            assert!(bits(text).is_err(), "{text}");
        }
    }
}
