//! Private keys under a password: PKCS#8 with PBES2 (RFC 8018), and OpenSSL's traditional PEM with AES.

use aes::cipher::KeyIvInit as _;
use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use md5::{Digest as _, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Decode as _;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use zeroize::{Zeroize as _, Zeroizing};

use super::super::pem::Block;
use super::{Error, Secret};
use crate::secret::SecretBytes;

/// Most rounds of PBKDF2: ten seconds or so on a slow machine. OpenSSL writes 2048.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Most memory of scrypt, in bytes. OpenSSL writes 16 MiB.
const MAX_MEMORY: u64 = 256 << 20;
/// Most lanes of scrypt, each of which takes its own time.
const MAX_LANES: u16 = 16;

/// `EncryptedPrivateKeyInfo` (RFC 5958, section 3).
pub(super) fn pkcs8(der: &[u8], password: Option<&SecretBytes>) -> Result<Secret, Error> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| Error::UnknownEncryption)?;
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(Error::UnknownEncryption);
    };
    match &parameters.kdf {
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count <= MAX_ITERATIONS => {}
        Kdf::Scrypt(scrypt) => {
            let memory = scrypt
                .cost_parameter
                .checked_mul(u64::from(scrypt.block_size) * 128);
            if memory.is_none_or(|memory| memory > MAX_MEMORY) || scrypt.parallelization > MAX_LANES
            {
                return Err(Error::TooCostly);
            }
        }
        _ => return Err(Error::TooCostly),
    }
    let password = password.ok_or(Error::NeedsPassword)?;
    let opened = info
        .decrypt(password.expose())
        .map_err(|_| Error::WrongPassword)?;
    // The padding of a wrong password fits once in 256 times.
    super::pkcs8(opened.as_bytes()).map_err(|error| match error {
        Error::Broken => Error::WrongPassword,
        error => error,
    })
}

/// The content of a block that says `Proc-Type: 4,ENCRYPTED`; `None` if it does not.
///
/// The key comes from the password by MD5 (`EVP_BytesToKey` with one round), which nobody would choose today; the file
/// is the user's own, and other tools open it. DES is not known here.
pub(super) fn traditional(
    block: &Block,
    password: Option<&SecretBytes>,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    if !block.is_encrypted {
        return Ok(None);
    }
    let (cipher, iv) = (block.dek_info.as_deref())
        .and_then(|value| value.split_once(','))
        .ok_or(Error::BrokenPem)?;
    let iv = hex16(iv).ok_or(Error::UnknownEncryption)?;
    let key_len = match cipher {
        "AES-128-CBC" => 16,
        "AES-192-CBC" => 24,
        "AES-256-CBC" => 32,
        _ => return Err(Error::UnknownEncryption),
    };
    let password = password.ok_or(Error::NeedsPassword)?;
    let key = bytes_to_key(password.expose(), &iv[..8], key_len);
    let der = block.der.as_ref().ok_or(Error::BrokenPem)?;
    let mut text = Zeroizing::new(der.expose().to_vec());
    let len = match key_len {
        16 => decrypt(
            Decryptor::<Aes128>::new_from_slices(&key, &iv).ok(),
            &mut text,
        ),
        24 => decrypt(
            Decryptor::<Aes192>::new_from_slices(&key, &iv).ok(),
            &mut text,
        ),
        _ => decrypt(
            Decryptor::<Aes256>::new_from_slices(&key, &iv).ok(),
            &mut text,
        ),
    };
    text.truncate(len.ok_or(Error::WrongPassword)?);
    Ok(Some(text))
}

fn decrypt<C: aes::cipher::BlockModeDecrypt>(cipher: Option<C>, text: &mut [u8]) -> Option<usize> {
    cipher?.decrypt_padded::<Pkcs7>(text).ok().map(<[u8]>::len)
}

fn bytes_to_key(password: &[u8], salt: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(48));
    let mut block = [0; 16];
    while key.len() < len {
        let mut hash = Md5::new();
        if !key.is_empty() {
            hash.update(block);
        }
        hash.update(password);
        hash.update(salt);
        block = hash.finalize().into();
        key.extend_from_slice(&block);
    }
    block.zeroize();
    key.truncate(len);
    key
}

fn hex16(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut octets = [0; 16];
    for (octet, at) in octets.iter_mut().zip((0..).step_by(2)) {
        *octet = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(octets)
}
