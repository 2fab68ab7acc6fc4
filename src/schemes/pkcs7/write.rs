//! Writing a message, as skopeo, buildah and `ctr-enc` read it: PKCS#1 v1.5, recipients by issuer and serial number,
//! content under AES-256-GCM.

use aes::Aes256;
use aes::cipher::consts::U12;
use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{AesGcm, KeyInit as _};
use zeroize::Zeroizing;

use super::content::GO_NONCE;
use super::{DATA, ENVELOPED_DATA, Error, RSA_ENCRYPTION};
use crate::der::{self, CONTEXT_0_CONSTRUCTED, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, element};
use crate::keys::certificate::Certificate;
use crate::keys::public::PublicKey;

/// AES-256-GCM, 2.16.840.1.101.3.4.1.46.
const AES_256_GCM: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 46];
const NULL: &[u8] = &[5, 0];
/// The smallest key that a layer is encrypted to (NIST SP 800-131A).
const MIN_BITS: u32 = 2048;

/// Encrypts `plain` for the holders of those certificates, of whom there is at least one.
///
/// # Errors
/// [`Error::NotRsa`] and [`Error::Wrapping`] for a certificate that cannot be used; [`Error::NoRandomness`].
pub fn seal(plain: &[u8], recipients: &[Certificate]) -> Result<Vec<u8>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    let mut nonce = [0; 12];
    getrandom::fill(key.as_mut_slice()).map_err(|_| Error::NoRandomness)?;
    getrandom::fill(&mut nonce).map_err(|_| Error::NoRandomness)?;
    let mut infos: Vec<_> = recipients
        .iter()
        .map(|certificate| key_transport(certificate, &key))
        .collect::<Result<_, _>>()?;
    // The elements of a SET OF stand in order (X.690, section 11.6).
    infos.sort();
    let infos: Vec<&[u8]> = infos.iter().map(Vec::as_slice).collect();

    let mut text = plain.to_vec();
    let tag = AesGcm::<Aes256, U12>::new((&*key).into())
        .encrypt_inout_detached((&nonce).into(), &[], text.as_mut_slice().into())
        .map_err(|_| Error::Malformed)?;
    let parameters = element(
        SEQUENCE,
        &[&element(GO_NONCE, &[&nonce]), &element(INTEGER, &[&[16]])],
    );
    // As the Go library takes the parameters (`content::gcm_nonce`).
    let parameters = element(SEQUENCE, &[&parameters]);
    let content = element(
        SEQUENCE,
        &[
            &element(OID, &[DATA]),
            &element(SEQUENCE, &[&element(OID, &[AES_256_GCM]), &parameters]),
            &element(der::CONTEXT_0, &[&text, &tag]),
        ],
    );
    let version = element(INTEGER, &[&[0]]);
    let enveloped = element(SEQUENCE, &[&version, &element(SET, &infos), &content]);
    Ok(element(
        SEQUENCE,
        &[
            &element(OID, &[ENVELOPED_DATA]),
            &element(CONTEXT_0_CONSTRUCTED, &[&enveloped]),
        ],
    ))
}

fn key_transport(certificate: &Certificate, key: &[u8; 32]) -> Result<Vec<u8>, Error> {
    let Ok(PublicKey::Rsa(public)) = PublicKey::parse("", &certificate.public_key) else {
        return Err(Error::NotRsa);
    };
    if public.bits() < MIN_BITS {
        return Err(Error::NotRsa);
    }
    let wrapped = public
        .library()
        .pkcs1v15_encrypt(key)
        .map_err(|source| Error::Wrapping {
            source: Box::new(source),
        })?;
    let serial = element(INTEGER, &[&certificate.serial]);
    Ok(element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[0]]),
            &element(SEQUENCE, &[&certificate.issuer, &serial]),
            &element(SEQUENCE, &[&element(OID, &[RSA_ENCRYPTION]), NULL]),
            &element(OCTET_STRING, &[&wrapped]),
        ],
    ))
}
