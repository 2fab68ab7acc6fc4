//! What a private key does: decrypt, derive a secret, unwrap one. Answers are in memory that is wiped.

use std::ptr;

use cryptoki_sys as sys;
use zeroize::Zeroizing;

use super::objects::{attribute, bytes_of};
use super::{Ckr, Fault, Function, Instant, Module, Object, Session, call};
use crate::operation::OaepHash;

/// How a ciphertext is to be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) enum Mechanism {
    /// `CKM_RSA_PKCS_OAEP`, MGF1 with the same hash, no label.
    Oaep(OaepHash),
    /// `CKM_RSA_PKCS`: PKCS#1 v1.5.
    Pkcs1,
    /// `CKM_RSA_X_509`: the padding stays.
    RawRsa,
}

/// What a secret object that we make has beside class and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) enum Readable {
    /// `CKA_SENSITIVE` false, `CKA_EXTRACTABLE` true.
    Asked,
    /// Neither is said: openCryptoki sets them by itself, and refuses to be told.
    Unsaid,
}

impl Module<'_> {
    /// `C_DecryptInit`.
    pub(in crate::hsm) fn begin_to_decrypt(
        &self,
        session: Session,
        key: Object,
        mechanism: Mechanism,
    ) -> Result<(), Fault> {
        let mut oaep;
        let mut mechanism = match mechanism {
            Mechanism::Oaep(hash) => {
                oaep = oaep_parameters(hash);
                with_parameters(sys::CKM_RSA_PKCS_OAEP, &mut oaep)
            }
            Mechanism::Pkcs1 => without_parameters(sys::CKM_RSA_PKCS),
            Mechanism::RawRsa => without_parameters(sys::CKM_RSA_X_509),
        };
        call!(self, C_DecryptInit, session.0, &mut mechanism, key.0)
    }

    /// `C_Decrypt` in one call. The buffer is as long as the ciphertext, so nothing that a key gives is too long for it:
    /// NSS would cut it off without a word.
    pub(in crate::hsm) fn decrypt(
        &self,
        session: Session,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut plain = Zeroizing::new(vec![0; ciphertext.len()]);
        let mut length = plain.len() as sys::CK_ULONG;
        call!(
            self,
            C_Decrypt,
            session.0,
            ciphertext.as_ptr().cast_mut(),
            ciphertext.len() as sys::CK_ULONG,
            plain.as_mut_ptr(),
            &mut length,
        )?;
        plain.truncate(length as usize);
        Ok(plain)
    }

    /// ECDH without a derivation function, into a session object of `length` bytes. `point` is uncompressed.
    pub(in crate::hsm) fn derive(
        &self,
        session: Session,
        key: Object,
        point: &[u8],
        length: usize,
    ) -> Result<Object, Fault> {
        let mut parameters = sys::CK_ECDH1_DERIVE_PARAMS {
            kdf: sys::CKD_NULL,
            ulSharedDataLen: 0,
            pSharedData: ptr::null_mut(),
            ulPublicDataLen: point.len() as sys::CK_ULONG,
            pPublicData: point.as_ptr().cast_mut(),
        };
        let mut mechanism = with_parameters(sys::CKM_ECDH1_DERIVE, &mut parameters);
        let length = length as sys::CK_ULONG;
        let attributes = Secret::new(Readable::Asked);
        let mut template = attributes.template();
        template.push(attribute(sys::CKA_VALUE_LEN, bytes_of(&length)));
        let mut secret = 0;
        call!(
            self,
            C_DeriveKey,
            session.0,
            &mut mechanism,
            key.0,
            template.as_mut_ptr(),
            template.len() as sys::CK_ULONG,
            &mut secret,
        )?;
        Ok(Object(secret))
    }

    /// Unwraps with RSA-OAEP into a session object. Never with a length: modules refuse it here.
    pub(in crate::hsm) fn unwrap_key(
        &self,
        session: Session,
        key: Object,
        hash: OaepHash,
        wrapped: &[u8],
        readable: Readable,
    ) -> Result<Object, Fault> {
        let mut parameters = oaep_parameters(hash);
        let mut mechanism = with_parameters(sys::CKM_RSA_PKCS_OAEP, &mut parameters);
        let attributes = Secret::new(readable);
        let mut template = attributes.template();
        let mut secret = 0;
        call!(
            self,
            C_UnwrapKey,
            session.0,
            &mut mechanism,
            key.0,
            wrapped.as_ptr().cast_mut(),
            wrapped.len() as sys::CK_ULONG,
            template.as_mut_ptr(),
            template.len() as sys::CK_ULONG,
            &mut secret,
        )?;
        Ok(Object(secret))
    }

    /// `CKA_VALUE` of a secret object, of `limit` bytes at most; `None` where the token does not show it.
    pub(in crate::hsm) fn secret(
        &self,
        session: Session,
        object: Object,
        limit: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        let mut value = Zeroizing::new(vec![0; limit]);
        let mut template = [sys::CK_ATTRIBUTE {
            type_: sys::CKA_VALUE,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: limit as sys::CK_ULONG,
        }];
        let result = call!(
            self,
            C_GetAttributeValue,
            session.0,
            object.0,
            template.as_mut_ptr(),
            1,
        );
        match result {
            Ok(()) => {
                value.truncate(template[0].ulValueLen as usize);
                Ok(Some(value))
            }
            Err(fault)
                if matches!(
                    fault.code,
                    Ckr::CKR_ATTRIBUTE_SENSITIVE | Ckr::CKR_ATTRIBUTE_TYPE_INVALID
                ) =>
            {
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// `C_DestroyObject`. tpm2-pkcs11 keeps what it derives beyond the session, so this is no formality; where it fails,
    /// there is nothing better to do than go on.
    pub(in crate::hsm) fn destroy(&self, session: Session, object: Object) {
        let _ = self.remove(session, object);
    }

    /// `C_DestroyObject`, of one that is meant to go.
    pub(in crate::hsm) fn remove(&self, session: Session, object: Object) -> Result<(), Fault> {
        call!(self, C_DestroyObject, session.0, object.0)
    }
}

/// Values of the attributes of a secret object that we make.
struct Secret {
    readable: Readable,
    class: sys::CK_OBJECT_CLASS,
    kind: sys::CK_KEY_TYPE,
}

const YES: [sys::CK_BBOOL; 1] = [sys::CK_TRUE];
const NO: [sys::CK_BBOOL; 1] = [sys::CK_FALSE];

impl Secret {
    fn new(readable: Readable) -> Self {
        Self {
            readable,
            class: sys::CKO_SECRET_KEY,
            kind: sys::CKK_GENERIC_SECRET,
        }
    }

    /// Borrows the values, which must outlive the call.
    fn template(&self) -> Vec<sys::CK_ATTRIBUTE> {
        let mut template = vec![
            attribute(sys::CKA_CLASS, bytes_of(&self.class)),
            attribute(sys::CKA_KEY_TYPE, bytes_of(&self.kind)),
            attribute(sys::CKA_TOKEN, &NO),
        ];
        if self.readable == Readable::Asked {
            template.push(attribute(sys::CKA_SENSITIVE, &NO));
            template.push(attribute(sys::CKA_EXTRACTABLE, &YES));
        }
        template
    }
}

fn with_parameters<T>(mechanism: sys::CK_MECHANISM_TYPE, parameters: &mut T) -> sys::CK_MECHANISM {
    sys::CK_MECHANISM {
        mechanism,
        pParameter: ptr::from_mut(parameters).cast(),
        ulParameterLen: size_of::<T>() as sys::CK_ULONG,
    }
}

fn without_parameters(mechanism: sys::CK_MECHANISM_TYPE) -> sys::CK_MECHANISM {
    sys::CK_MECHANISM {
        mechanism,
        ..Default::default()
    }
}

/// No label is a NULL pointer: NSS refuses one that merely has no length.
fn oaep_parameters(hash: OaepHash) -> sys::CK_RSA_PKCS_OAEP_PARAMS {
    let (hash, mgf) = match hash {
        OaepHash::Sha1 => (sys::CKM_SHA_1, sys::CKG_MGF1_SHA1),
        OaepHash::Sha256 => (sys::CKM_SHA256, sys::CKG_MGF1_SHA256),
    };
    sys::CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: hash,
        mgf,
        source: sys::CKZ_DATA_SPECIFIED,
        pSourceData: ptr::null_mut(),
        ulSourceDataLen: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oaep_has_no_label_and_the_same_hash_twice() {
        let parameters = oaep_parameters(OaepHash::Sha256);
        assert!(parameters.pSourceData.is_null());
        assert_eq!(parameters.hashAlg, sys::CKM_SHA256);
        assert_eq!(parameters.mgf, sys::CKG_MGF1_SHA256);
    }
}
