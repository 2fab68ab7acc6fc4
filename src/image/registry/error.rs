//! What can go wrong between us and a registry, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::words::reason;

/// What happened. No field holds a password or a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer came.
    #[error("cannot reach registry {host}: {}", why(source))]
    Unreachable {
        /// The registry, or who gives out its tokens.
        host: String,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// The registry does not let us.
    #[error("registry {host} does not let {who} {action}")]
    Denied {
        /// The registry.
        host: String,
        /// The user, or that there is none.
        who: String,
        /// What we tried.
        action: &'static str,
    },
    /// There is no such image or blob.
    #[error("registry {host} has no {what}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Any other answer that is not the one that was wanted.
    #[error("registry {host} answers {status} where we {action}{}", if said.is_empty() { String::new() } else { format!(": {said:?}") })]
    Status {
        /// The registry.
        host: String,
        /// What we tried.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// The start of what it says.
        said: String,
    },
    /// An answer that cannot be used.
    #[error("registry {host} gives an answer that makes no sense: {what}")]
    Nonsense {
        /// The registry.
        host: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A manifest that is not what its digest says.
    #[error("the manifest that the registry gives for {name} has another digest")]
    WrongManifest {
        /// The image.
        name: String,
    },
    /// The connection broke, and again whenever it was tried.
    #[error(
        "the connection to registry {host} broke {tries} times: {}",
        reason(source)
    )]
    Broken {
        /// The registry.
        host: String,
        /// How often it was tried.
        tries: u32,
        /// Why, at last.
        source: io::Error,
    },
    /// A file with credentials or certificates that cannot be used.
    #[error("{} {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never its content.
        what: &'static str,
    },
    /// A helper that should know a password.
    #[error("the credential helper docker-credential-{name} {what}")]
    Helper {
        /// Its name.
        name: String,
        /// What is wrong with it. Never its output.
        what: &'static str,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Read(#[from] crate::file::Error),
    /// We were asked to end while a registry was waited for.
    #[error("a signal asked us to end")]
    Stopped,
    /// An image is written under a tag.
    #[error("{name} has a digest: a new image is written under a tag")]
    DigestAsTarget {
        /// The name.
        name: String,
    },
}

impl Error {
    /// Without what the server says, which may be a token that we do not know yet.
    pub(super) fn unsaid(mut self) -> Self {
        if let Self::Status { said, .. } = &mut self {
            said.clear();
        }
        self
    }

    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { host, .. } => Some(format!(
                "log in with `skopeo login {host}` or `docker login {host}`, or name the file with the password in REGISTRY_AUTH_FILE"
            )),
            Self::Unreachable { source, .. } if wants_ours(source) => Some(
                "it wants a client certificate: put it into the directory of --cert-dir, as *.cert with *.key".to_owned(),
            ),
            Self::Unreachable { source, .. } if is_about_tls(source) => Some(
                "trust its certificate with --cert-dir, or nobody's with --tls-verify=false"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Whether it is the certificate, or that there is no TLS at all. The library tells some of that as if a file were
/// damaged.
pub(super) fn is_about_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Whether we have shown no certificate, or one that the registry does not take.
fn wants_ours(error: &ureq::Error) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateRequired};
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|it| it.downcast_ref()),
        _ => None,
    };
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            CertificateRequired | BadCertificate
        ))
    )
}

fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => reason(error),
        error => error.to_string(),
    }
}
