//! Objects on a token: finding keys, and reading their attributes.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys as sys;

use super::{Ckr, Fault, Function, Instant, Module, Object, Session, call};

/// Longest attribute value that we read: the modulus of RSA-16384.
const MAX_ATTRIBUTE: usize = 2048;

/// What a search asks for. Absent fields match everything.
#[derive(Clone, Copy, Debug)]
pub(in crate::hsm) struct Wanted<'a> {
    pub(in crate::hsm) class: sys::CK_OBJECT_CLASS,
    pub(in crate::hsm) kind: Option<sys::CK_KEY_TYPE>,
    pub(in crate::hsm) id: Option<&'a [u8]>,
    pub(in crate::hsm) label: Option<&'a str>,
}

impl Module<'_> {
    /// Up to `limit` keys that match, asked for until the module has no more: some give one at a time.
    pub(in crate::hsm) fn find(
        &self,
        session: Session,
        wanted: Wanted<'_>,
        limit: usize,
    ) -> Result<Vec<Object>, Fault> {
        self.begin_search(session, wanted)?;
        let mut found = Vec::new();
        let result = loop {
            match self.next(session, limit - found.len()) {
                Ok(objects) if objects.is_empty() => break Ok(()),
                Ok(objects) => found.extend(objects),
                Err(fault) => break Err(fault),
            }
            if found.len() >= limit {
                break Ok(());
            }
        };
        let ended = call!(self, C_FindObjectsFinal, session.0);
        result.and(ended).map(|()| found)
    }

    fn begin_search(&self, session: Session, wanted: Wanted<'_>) -> Result<(), Fault> {
        let (class, kind) = (wanted.class, wanted.kind);
        let mut template = vec![attribute(sys::CKA_CLASS, bytes_of(&class))];
        template.extend(
            kind.as_ref()
                .map(|kind| attribute(sys::CKA_KEY_TYPE, bytes_of(kind))),
        );
        template.extend(wanted.id.map(|id| attribute(sys::CKA_ID, id)));
        template.extend(
            wanted
                .label
                .map(|label| attribute(sys::CKA_LABEL, label.as_bytes())),
        );
        let length = template.len() as sys::CK_ULONG;
        call!(
            self,
            C_FindObjectsInit,
            session.0,
            template.as_mut_ptr(),
            length
        )
    }

    fn next(&self, session: Session, limit: usize) -> Result<Vec<Object>, Fault> {
        let mut objects = vec![0; limit];
        let mut count = 0;
        call!(
            self,
            C_FindObjects,
            session.0,
            objects.as_mut_ptr(),
            limit as sys::CK_ULONG,
            &mut count,
        )?;
        objects.truncate(count as usize);
        Ok(objects.into_iter().map(Object).collect())
    }

    /// Values of attributes in one call; `None` for one that the object has not, or does not show.
    pub(in crate::hsm) fn attributes<const N: usize>(
        &self,
        session: Session,
        object: Object,
        types: [sys::CK_ATTRIBUTE_TYPE; N],
    ) -> Result<[Option<Vec<u8>>; N], Fault> {
        let mut values = vec![[0_u8; MAX_ATTRIBUTE]; N];
        let mut template = [sys::CK_ATTRIBUTE::default(); N];
        for ((entry, value), kind) in template.iter_mut().zip(&mut values).zip(types) {
            entry.type_ = kind;
            entry.pValue = value.as_mut_ptr().cast();
            entry.ulValueLen = MAX_ATTRIBUTE as sys::CK_ULONG;
        }
        let result = call!(
            self,
            C_GetAttributeValue,
            session.0,
            object.0,
            template.as_mut_ptr(),
            N as sys::CK_ULONG,
        );
        match result {
            Ok(()) => {}
            // The others are filled all the same (section 5.7.5).
            Err(fault)
                if matches!(
                    fault.code,
                    Ckr::CKR_ATTRIBUTE_TYPE_INVALID
                        | Ckr::CKR_ATTRIBUTE_SENSITIVE
                        | Ckr::CKR_BUFFER_TOO_SMALL
                ) => {}
            Err(fault) => return Err(fault),
        }
        let mut found = [const { None }; N];
        for ((entry, value), found) in template.iter().zip(&values).zip(&mut found) {
            // A module that stopped at another attribute left this one as it was.
            let untouched = result.is_err()
                && entry.ulValueLen as usize == MAX_ATTRIBUTE
                && value.iter().all(|&byte| byte == 0);
            if !untouched {
                *found = value.get(..entry.ulValueLen as usize).map(<[u8]>::to_vec);
            }
        }
        Ok(found)
    }
}

/// An attribute that borrows its value, which must outlive the call.
pub(super) fn attribute(kind: sys::CK_ATTRIBUTE_TYPE, value: &[u8]) -> sys::CK_ATTRIBUTE {
    sys::CK_ATTRIBUTE {
        type_: kind,
        pValue: value.as_ptr().cast_mut().cast::<c_void>(),
        ulValueLen: value.len() as sys::CK_ULONG,
    }
}

/// A number as attributes hold it.
pub(super) fn bytes_of(number: &sys::CK_ULONG) -> &[u8] {
    #[allow(unsafe_code)]
    // SAFETY: an integer has no padding, and the slice borrows it.
    unsafe {
        std::slice::from_raw_parts(ptr::from_ref(number).cast(), size_of_val(number))
    }
}
