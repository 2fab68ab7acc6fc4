//! `ocihsm keyprovider`: the other side of the key-provider protocol, so that skopeo, buildah, podman, CRI-O and
//! `ctd-decoder` use a token through us.
//!
//! One request on standard input, one answer on standard output. What an answer to `keywrap` holds is a PKCS#11 packet,
//! if every recipient is `pkcs11:`, else a JWE.

use std::io::{self, Read as _, Write as _};

use zeroize::Zeroizing;

use super::recipients::Recipients;
use super::unwrapping::Opener;
use crate::commands::args::{HsmArgs, KeyArgs};
use crate::commands::{Error, Result};
use crate::envelope::Scheme;
use crate::keys::policy::Policy;
use crate::keys::ring::KeyRing;
use crate::options::PrivateOptions;
use crate::schemes::provider::protocol::{Answer, MAX_MESSAGE, Request, Wanted};
use crate::schemes::{self, provider};
use crate::secret::SecretBytes;
use crate::settings::{self, Arguments, Environment};

/// Arguments of `keyprovider`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Name by which the other tools call it: what they give for other key providers is passed over
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the keys are.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Other tools execute this, as the file says that OCICRYPT_KEYPROVIDER_CONFIG names; `ocihsm config keyprovider` prints it. \
They name recipients as provider:ocihsm:RECIPIENT, where RECIPIENT is pkcs11:FILE, jwe:FILE or FILE, as `ocihsm encrypt` \
takes them; to decrypt, provider:ocihsm is enough.

Examples:
  ocihsm config keyprovider > ocicrypt_keyprovider.conf
  ocihsm keyprovider --key /etc/containerd/ocicrypt/keys < request.json";

/// Answers one request.
///
/// # Errors
/// [`Error::InvalidRequest`] for what is none; whatever kept it from being answered.
pub fn run(args: &Args) -> Result<()> {
    let mut request = Zeroizing::new(Vec::with_capacity(64 << 10));
    io::stdin()
        .take(MAX_MESSAGE as u64 + 1)
        .read_to_end(&mut request)
        .map_err(|source| Error::Stream {
            action: "read standard input",
            source,
        })?;
    if request.len() > MAX_MESSAGE {
        return Err(Error::TooLarge {
            what: "request to the key provider",
            limit: MAX_MESSAGE as u64,
        });
    }
    let answer = match Request::parse(&request).ok_or(Error::InvalidRequest)? {
        Wanted::Wrap {
            parameters,
            options,
        } => {
            // Beside what is for us stands what is for other schemes and providers.
            let ours = |name: &str| match &args.name {
                Some(own) => name == own,
                None => provider::may_be(name),
            };
            let parameters = parameters.into_iter();
            let texts = parameters.filter(|(name, _)| ours(name));
            wrap(args, texts.flat_map(|(_, texts)| texts), &options)?
        }
        Wanted::Unwrap { annotation } => unwrap(args, &annotation)?,
    };
    let mut output = io::stdout().lock();
    output
        .write_all(answer.to_json().expose())
        .and_then(|()| output.write_all(b"\n"))
        .and_then(|()| output.flush())
        .map_err(|source| Error::Stream {
            action: "write to standard output",
            source,
        })
}

fn wrap(
    args: &Args,
    texts: impl Iterator<Item = SecretBytes>,
    options: &SecretBytes,
) -> Result<Answer> {
    let private = PrivateOptions::parse(options)?;
    let mut recipients = Vec::new();
    for text in texts {
        let text = String::from_utf8(text.expose().to_vec());
        let text = text.map_err(|_| Error::InvalidRequest)?;
        if text != provider::ENABLED {
            recipients.push(text);
        }
    }
    if recipients.is_empty() {
        return Err(Error::NoRecipient);
    }
    let recipients = Recipients::read(&recipients, None, &args.hsm)?;
    Ok(Answer::Wrapped(recipients.wrap_alone(&private)?))
}

fn unwrap(args: &Args, annotation: &[u8]) -> Result<Answer> {
    let settings = settings::resolve(
        Arguments {
            keys: args.keys.decryption_keys_path.clone(),
            hsm_timeout: args.hsm.hsm_timeout,
            allow_final_try: args.hsm.allow_final_try,
            ..Arguments::default()
        },
        &Environment::current(),
    )?;
    if settings.keys.paths.is_empty() {
        return Err(Error::NoKeys);
    }
    let ring = KeyRing::read(
        &settings.keys.paths,
        &Policy::discover(&settings.keys.policy)?,
    )?;
    let scheme = match schemes::pkcs11::recipients(annotation) {
        Ok(_) => Scheme::pkcs11(),
        Err(_) => Scheme::named("jwe"),
    };
    let wrapped = schemes::wrapped_key(&scheme, annotation);
    let mut opener = Opener::new(settings.hsm, None).with_keys(ring);
    let private = opener.open_alone(&scheme, &wrapped)?;
    Ok(Answer::Unwrapped(private.to_json()))
}
