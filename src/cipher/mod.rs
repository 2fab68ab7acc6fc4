//! Ciphers of a layer, and the pipeline that moves its bytes.
//!
//! A stream in, a stream out: nothing here knows where the key came from or where the layer goes. What is written
//! was verified, up to what each cipher can know: see [`decrypt`].

mod buffer;
mod ctr_hmac;
mod error;
mod gcm_stream;
mod measure;
mod pipe;
mod pipeline;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

pub use self::pipe::enlarge_pipe;

pub use self::error::{Error, Result};
use self::measure::{DigestLane, Length};
use self::pipeline::{Lane, Lanes};
use crate::descriptor::Digest;
use crate::options::{CipherName, NONCE, PrivateOptions, PublicOptions};
use crate::secret::LayerKey;

/// What is needed to decrypt one layer: cipher, key, nonce and MAC, checked. The key is wiped with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    CtrHmac(ctr_hmac::Parameters),
    GcmStream(gcm_stream::Parameters),
}

impl Parameters {
    /// Checks the options of a layer against what its cipher needs.
    ///
    /// # Errors
    /// [`Error::Options`] for an unknown cipher, a nonce of the wrong length, without a MAC where the cipher has one or with
    /// one where it has none, and for public options that are not to be trusted.
    pub fn new(public: &PublicOptions, private: &PrivateOptions) -> Result<Self> {
        Ok(Self(match public.cipher()? {
            CipherName::Aes256CtrHmacSha256 => {
                Kind::CtrHmac(ctr_hmac::Parameters::new(public, private)?)
            }
            CipherName::Aes256GcmStream => {
                Kind::GcmStream(gcm_stream::Parameters::new(public, private)?)
            }
        }))
    }
}

/// A layer that was decrypted and verified, and written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of the encrypted blob.
    pub blob_len: u64,
    /// Bytes of the plain layer.
    pub plain_len: u64,
}

/// A layer that could not be decrypted.
#[derive(Debug)]
pub struct Failed {
    /// Why not.
    pub error: Error,
    /// Bytes of the plain layer that had left before. If there are any, the caller has to spoil the stream.
    pub written: u64,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// A layer that was encrypted, and what its manifest needs to know.
#[derive(Debug)]
pub struct Sealed {
    /// Cipher and MAC, for the annotation.
    pub public_options: PublicOptions,
    /// Key, nonce and digest of the plain layer, to be wrapped for the recipients.
    pub private_options: PrivateOptions,
    /// Digest of the plain layer, to be compared with what it should have been.
    pub plain_digest: Digest,
    /// Bytes of the plain layer.
    pub plain_len: u64,
    /// Digest of the encrypted blob.
    pub blob_digest: Digest,
    /// Bytes of the encrypted blob.
    pub blob_len: u64,
}

/// Longest encrypted blob that is verified whole before its first byte is written, in bytes.
pub const VERIFIED_WHOLE: u64 = 1 << 20;

/// Decrypts a layer. `expected_len` is the length of the encrypted blob as its descriptor has it.
///
/// The end of the layer (at least the last 512 KiB, or the whole of one up to [`VERIFIED_WHOLE`]) is written only when
/// all of it was verified. What goes before is verified segment by segment under `AES_256_GCM_STREAM`, and not
/// at all before the end under `AES_256_CTR_HMAC_SHA256`, which has one MAC over everything.
///
/// `output` should not buffer by itself: large slices are written. It is flushed at the end.
///
/// # Errors
/// [`Error::Verification`], [`Error::WrongLength`] (as soon as the length is exceeded), [`Error::Stream`].
pub fn decrypt<R: Read + Send, W: Write + Send>(
    parameters: &Parameters,
    input: R,
    output: W,
    expected_len: Option<u64>,
) -> Result<Opened, Failed> {
    let mut length = Length::new(expected_len);
    let plain_len = match &parameters.0 {
        Kind::CtrHmac(ctr) => pipeline::run(
            input,
            output,
            ctr_hmac::SHAPE,
            Lanes {
                before: &mut length,
                beside: ctr.verifier(),
                after: ctr.keystream(),
            },
        ),
        Kind::GcmStream(gcm) => pipeline::run(
            input,
            output,
            gcm_stream::OPEN,
            Lanes {
                before: (&mut length, gcm.opener().helper()),
                beside: gcm.opener(),
                after: (),
            },
        ),
    }?;
    Ok(Opened {
        blob_len: length.taken(),
        plain_len,
    })
}

/// Decrypts a layer like [`decrypt`], and computes the digest of the plain layer on the way.
///
/// # Errors
/// As [`decrypt`].
pub fn decrypt_and_digest<R: Read + Send, W: Write + Send>(
    parameters: &Parameters,
    input: R,
    output: W,
    expected_len: Option<u64>,
) -> Result<(Opened, Digest), Failed> {
    let mut length = Length::new(expected_len);
    let mut digest = DigestLane::default();
    let plain_len = match &parameters.0 {
        Kind::CtrHmac(ctr) => pipeline::run(
            input,
            output,
            ctr_hmac::SHAPE,
            Lanes {
                before: &mut length,
                beside: (ctr.verifier(), ctr.keystream()),
                after: &mut digest,
            },
        ),
        Kind::GcmStream(gcm) => pipeline::run(
            input,
            output,
            gcm_stream::OPEN,
            Lanes {
                before: (&mut length, gcm.opener().helper()),
                beside: (gcm.opener(), &mut digest),
                after: (),
            },
        ),
    }?;
    let opened = Opened {
        blob_len: length.taken(),
        plain_len,
    };
    Ok((opened, digest.finish()))
}

/// Verifies a whole layer (its length, and its MAC or all tags) without writing any of it.
///
/// # Errors
/// As [`decrypt`].
pub fn verify<R: Read + Send>(
    parameters: &Parameters,
    input: R,
    expected_len: Option<u64>,
) -> Result<()> {
    fn through<R: Read>(
        input: R,
        shape: buffer::Shape,
        before: impl Lane,
        beside: impl Lane + Send,
    ) -> Result<u64, Failed> {
        let lanes = Lanes {
            before,
            beside,
            after: (),
        };
        pipeline::run(input, io::sink(), shape, lanes)
    }
    let length = Length::new(expected_len);
    match &parameters.0 {
        Kind::CtrHmac(ctr) => through(input, ctr_hmac::SHAPE, length, ctr.verifier()),
        Kind::GcmStream(gcm) => through(
            input,
            gcm_stream::OPEN,
            (length, gcm.opener().helper()),
            gcm.opener(),
        ),
    }?;
    Ok(())
}

/// Copies a layer as it is, and computes its digest on the way.
///
/// # Errors
/// [`Error::Stream`].
pub fn copy<R: Read + Send, W: Write + Send>(input: R, output: W) -> Result<Digest> {
    let mut digest = DigestLane::default();
    let lanes = Lanes {
        before: (),
        beside: &mut digest,
        after: (),
    };
    pipeline::run(input, output, ctr_hmac::SHAPE, lanes)?;
    Ok(digest.finish())
}

/// Encrypts a layer under a fresh key.
///
/// Nothing is known here of what the source should be: the caller compares [`Sealed::plain_digest`].
///
/// # Errors
/// [`Error::Stream`]; [`Error::Random`] when the system has no random bytes; [`Error::TooLarge`] over 2^32 segments.
pub fn encrypt<R: Read + Send, W: Write + Send>(
    cipher: CipherName,
    input: R,
    output: W,
) -> Result<Sealed> {
    encrypt_with(Fresh::new(cipher)?, input, output)
}

/// Key and nonce of one layer that is to be encrypted, used for it alone.
struct Fresh {
    key: LayerKey,
    nonce: Nonce,
}

/// The nonce by cipher.
enum Nonce {
    CtrHmac([u8; ctr_hmac::NONCE_LEN]),
    GcmStream([u8; gcm_stream::PREFIX_LEN]),
}

impl Fresh {
    fn new(cipher: CipherName) -> Result<Self> {
        Ok(Self {
            key: LayerKey::random().map_err(|source| Error::Random { source })?,
            nonce: match cipher {
                CipherName::Aes256CtrHmacSha256 => Nonce::CtrHmac(random()?),
                CipherName::Aes256GcmStream => Nonce::GcmStream(random()?),
            },
        })
    }
}

fn encrypt_with<R: Read + Send, W: Write + Send>(
    Fresh { key, nonce }: Fresh,
    input: R,
    output: W,
) -> Result<Sealed> {
    let mut plain = (Length::new(None), DigestLane::default());
    let (cipher, hmac, nonce, blob_len, blob_digest) = match nonce {
        Nonce::CtrHmac(nonce) => {
            let mut mac = ctr_hmac::Authenticator::new(&key);
            let lanes = Lanes {
                before: (&mut plain, ctr_hmac::Keystream::new(&key, &nonce)),
                beside: &mut mac,
                after: (),
            };
            let blob_len = pipeline::run(input, output, ctr_hmac::SHAPE, lanes)?;
            let (mac, blob_digest) = mac.finish();
            let cipher = CipherName::Aes256CtrHmacSha256;
            (
                cipher,
                Some(mac.to_vec()),
                nonce.to_vec(),
                blob_len,
                blob_digest,
            )
        }
        Nonce::GcmStream(prefix) => {
            let mut blob = DigestLane::default();
            let lanes = Lanes {
                before: &mut plain,
                beside: (gcm_stream::Sealer::new(&key, prefix), &mut blob),
                after: (),
            };
            let blob_len = pipeline::run(input, output, gcm_stream::SEAL, lanes)?;
            let cipher = CipherName::Aes256GcmStream;
            (cipher, None, prefix.to_vec(), blob_len, blob.finish())
        }
    };
    let (plain_len, plain_digest) = (plain.0.taken(), plain.1.finish());
    Ok(Sealed {
        public_options: PublicOptions {
            cipher_name: cipher.to_string(),
            hmac,
            cipher_options: BTreeMap::new(),
        },
        private_options: PrivateOptions {
            key,
            digest: Some(plain_digest.to_string()),
            cipher_options: BTreeMap::from([(NONCE.to_owned(), nonce)]),
        },
        plain_digest,
        plain_len,
        blob_digest,
        blob_len,
    })
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|source| Error::Random { source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
