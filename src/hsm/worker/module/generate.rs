//! What changes a token: a pair made in it.

use cryptoki_sys as sys;

use super::objects::{attribute, bytes_of};
use super::{Ckr, Fault, Function, Instant, Module, Object, Session, call};

/// 65537, the public exponent of every key that we make (FIPS 186-5, appendix A.1.1, allows it).
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];

/// How a pair is to be made.
#[derive(Clone, Copy, Debug)]
pub(in crate::hsm) struct NewPair<'a> {
    /// `CKM_RSA_PKCS_KEY_PAIR_GEN` or `CKM_RSA_X9_31_KEY_PAIR_GEN`.
    pub(in crate::hsm) mechanism: sys::CK_MECHANISM_TYPE,
    pub(in crate::hsm) id: &'a [u8],
    pub(in crate::hsm) label: &'a str,
    pub(in crate::hsm) bits: u32,
    /// Says that it neither signs nor verifies. tpm2-pkcs11 makes no key that is told so.
    pub(in crate::hsm) no_signing: bool,
}

/// How an elliptic pair is to be made.
#[derive(Clone, Copy, Debug)]
pub(in crate::hsm) struct NewEllipticPair<'a> {
    pub(in crate::hsm) id: &'a [u8],
    pub(in crate::hsm) label: &'a str,
    /// `CKA_EC_PARAMS`.
    pub(in crate::hsm) parameters: &'a [u8],
    /// Says that the private half decrypts, beside deriving.
    pub(in crate::hsm) decrypts: bool,
    /// Says that it neither signs nor verifies.
    pub(in crate::hsm) no_signing: bool,
}

impl Module<'_> {
    /// Smallest and largest RSA key that a mechanism makes, in bits.
    pub(in crate::hsm) fn key_sizes(
        &self,
        slot: sys::CK_SLOT_ID,
        mechanism: sys::CK_MECHANISM_TYPE,
    ) -> Result<(u64, u64), Fault> {
        let mut info = sys::CK_MECHANISM_INFO::default();
        call!(self, C_GetMechanismInfo, slot, mechanism, &mut info)?;
        Ok((info.ulMinKeySize, info.ulMaxKeySize))
    }

    /// Makes an RSA pair that stays in the token: public and private half. The private one decrypts, is sensitive, and
    /// cannot be extracted.
    pub(in crate::hsm) fn generate_pair(
        &self,
        session: Session,
        pair: NewPair<'_>,
    ) -> Result<(Object, Object), Fault> {
        let (yes, no) = ([sys::CK_TRUE], [sys::CK_FALSE]);
        let bits = sys::CK_ULONG::from(pair.bits);
        let shared = [
            attribute(sys::CKA_TOKEN, &yes),
            attribute(sys::CKA_LABEL, pair.label.as_bytes()),
            attribute(sys::CKA_ID, pair.id),
        ];
        let mut public = shared.to_vec();
        public.extend([
            attribute(sys::CKA_MODULUS_BITS, bytes_of(&bits)),
            attribute(sys::CKA_PUBLIC_EXPONENT, &PUBLIC_EXPONENT),
            attribute(sys::CKA_ENCRYPT, &yes),
            attribute(sys::CKA_WRAP, &no),
        ]);
        if pair.no_signing {
            public.push(attribute(sys::CKA_VERIFY, &no));
            public.push(attribute(sys::CKA_VERIFY_RECOVER, &no));
        }
        let mut private = shared.to_vec();
        private.extend([
            attribute(sys::CKA_PRIVATE, &yes),
            attribute(sys::CKA_SENSITIVE, &yes),
            attribute(sys::CKA_EXTRACTABLE, &no),
            attribute(sys::CKA_DECRYPT, &yes),
            attribute(sys::CKA_UNWRAP, &no),
        ]);
        if pair.no_signing {
            private.push(attribute(sys::CKA_SIGN, &no));
            private.push(attribute(sys::CKA_SIGN_RECOVER, &no));
        }
        self.generate(session, pair.mechanism, public, private)
    }

    /// Makes an elliptic pair that stays in the token. The private half agrees on secrets, is sensitive, and cannot be
    /// extracted.
    pub(in crate::hsm) fn generate_elliptic_pair(
        &self,
        session: Session,
        pair: NewEllipticPair<'_>,
    ) -> Result<(Object, Object), Fault> {
        let (yes, no) = ([sys::CK_TRUE], [sys::CK_FALSE]);
        let shared = [
            attribute(sys::CKA_TOKEN, &yes),
            attribute(sys::CKA_LABEL, pair.label.as_bytes()),
            attribute(sys::CKA_ID, pair.id),
        ];
        let mut public = shared.to_vec();
        public.push(attribute(sys::CKA_EC_PARAMS, pair.parameters));
        let mut private = shared.to_vec();
        private.extend([
            attribute(sys::CKA_PRIVATE, &yes),
            attribute(sys::CKA_SENSITIVE, &yes),
            attribute(sys::CKA_EXTRACTABLE, &no),
            attribute(sys::CKA_DERIVE, &yes),
        ]);
        if pair.decrypts {
            private.push(attribute(sys::CKA_DECRYPT, &yes));
        }
        if pair.no_signing {
            public.push(attribute(sys::CKA_VERIFY, &no));
            private.push(attribute(sys::CKA_SIGN, &no));
        }
        self.generate(session, sys::CKM_EC_KEY_PAIR_GEN, public, private)
    }

    fn generate(
        &self,
        session: Session,
        mechanism: sys::CK_MECHANISM_TYPE,
        mut public: Vec<sys::CK_ATTRIBUTE>,
        mut private: Vec<sys::CK_ATTRIBUTE>,
    ) -> Result<(Object, Object), Fault> {
        let mut mechanism = sys::CK_MECHANISM {
            mechanism,
            ..Default::default()
        };
        let (mut public_key, mut private_key) = (0, 0);
        call!(
            self,
            C_GenerateKeyPair,
            session.0,
            &mut mechanism,
            public.as_mut_ptr(),
            public.len() as sys::CK_ULONG,
            private.as_mut_ptr(),
            private.len() as sys::CK_ULONG,
            &mut public_key,
            &mut private_key,
        )?;
        Ok((Object(public_key), Object(private_key)))
    }
}
