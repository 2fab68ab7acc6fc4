//! The functions of one loaded module, made safe to call: lengths bounded, answers checked, secrets wiped.
//!
//! Stands on `cryptoki-sys` alone. The `cryptoki` crate above it lists slots in a loop without an end (p11-kit makes
//! it spin), cannot read openCryptoki's token information, and decrypts by way of a length query (which Kryoptic
//! refuses) into memory that is not wiped. Here a function is one call, announced before it is made.
//!
//! No policy: which token, which key and which error matters is decided above.

mod generate;
mod objects;
mod operations;

use std::ffi::{CString, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr;
use std::time::Instant;

use cryptoki_sys as sys;

pub(in crate::hsm) use self::generate::{NewEllipticPair, NewPair};
pub(in crate::hsm) use self::objects::Wanted;
pub(in crate::hsm) use self::operations::{Mechanism, Readable};
use super::reporter::Reporter;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::function::Function;
use crate::hsm::token::{TokenInfo, text};
use crate::secret::Pin;

/// Most slots that a module may list.
const MAX_SLOTS: usize = 1024;

/// An open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) struct Session(sys::CK_SESSION_HANDLE);

/// An object on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) struct Object(sys::CK_OBJECT_HANDLE);

/// Who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hsm) enum User {
    /// `CKU_USER`.
    Normal,
    /// `CKU_CONTEXT_SPECIFIC`: the same, for the one operation that was begun.
    ContextSpecific,
}

/// `CK_C_INITIALIZE_ARGS` with one word more: NSS has `LibraryParameters` where the standard has `pReserved`, and behind
/// that a `pReserved` of its own, which it reads.
#[repr(C)]
struct InitializeArguments {
    standard: sys::CK_C_INITIALIZE_ARGS,
    reserved: *mut c_void,
}

/// A module, loaded and for the life of this process.
pub(in crate::hsm) struct Module<'a> {
    functions: *mut sys::CK_FUNCTION_LIST,
    reporter: &'a Reporter,
    /// Never unloaded: the process ends instead, and a destructor of the module's could still hang or crash it.
    _library: ManuallyDrop<sys::Pkcs11>,
}

/// Announces a function, calls it, and turns its code into a result.
macro_rules! call {
    ($module:ident, $function:ident $(, $argument:expr)* $(,)?) => {{
        $module.reporter.announce(Function::$function);
        let begin = Instant::now();
        #[allow(unsafe_code)]
        // SAFETY: `load` checked that the list is there and of a version that begins with these functions; the
        // library is never unloaded. Each argument is a value, or a pointer to memory that lives beyond the call
        // and is as long as the length beside it says.
        let code = unsafe {
            match (*$module.functions).$function {
                Some(function) => function($($argument),*),
                None => sys::CKR_FUNCTION_NOT_SUPPORTED,
            }
        };
        $module.reporter.returned(Ckr(code), begin.elapsed());
        match code {
            sys::CKR_OK => Ok(()),
            code => Err(Fault { function: Function::$function, code: Ckr(code) }),
        }
    }};
}

use call;

impl<'a> Module<'a> {
    /// Loads the library.
    pub(in crate::hsm) fn load(path: &Path, reporter: &'a Reporter) -> Result<Self, Failure> {
        reporter.announce(Function::dlopen);
        #[allow(unsafe_code)]
        // SAFETY: loading runs the library's initializers. It is the file that the policy allowed, and this
        // process exists for it.
        let library = unsafe { sys::Pkcs11::new(path) }.map_err(|error| Failure::Load {
            reason: loader_text(&error),
        })?;
        let library = ManuallyDrop::new(library);
        let no_module = |reason: &str| Failure::Load {
            reason: reason.to_owned(),
        };
        let Ok(list) = library.C_GetFunctionList.as_ref() else {
            return Err(no_module(
                "it is no PKCS#11 module, it has no C_GetFunctionList",
            ));
        };
        reporter.announce(Function::C_GetFunctionList);
        let begin = Instant::now();
        let mut functions = ptr::null_mut();
        #[allow(unsafe_code)]
        // SAFETY: the function has this type in every version of the standard, and the pointer is ours to fill.
        let code = unsafe { list(&mut functions) };
        reporter.returned(Ckr(code), begin.elapsed());
        if code != sys::CKR_OK {
            return Err(Failure::from(Fault {
                function: Function::C_GetFunctionList,
                code: Ckr(code),
            }));
        }
        if functions.is_null() {
            return Err(no_module("its function list is empty"));
        }
        #[allow(unsafe_code)]
        // SAFETY: every version of the list begins with its version.
        let version = unsafe { (*functions).version };
        if !matches!(version.major, 2 | 3) {
            return Err(no_module("its function list is of no version that we know"));
        }
        Ok(Self {
            functions,
            reporter,
            _library: library,
        })
    }

    /// `C_Initialize`, which may have been done by another part of the module. `init` is a string that some modules want
    /// to be initialized with; where there is none they get NULL, since others refuse everything else.
    pub(in crate::hsm) fn initialize(&self, init: Option<&str>) -> Result<(), Fault> {
        // A key file's string has no NUL; one that had would end there.
        let init = init.map(|text| CString::new(text).unwrap_or_default());
        let mut arguments = InitializeArguments {
            standard: sys::CK_C_INITIALIZE_ARGS {
                flags: sys::CKF_OS_LOCKING_OK,
                pReserved: init.as_ref().map_or(ptr::null_mut(), |text| {
                    text.as_ptr().cast_mut().cast::<c_void>()
                }),
                ..Default::default()
            },
            reserved: ptr::null_mut(),
        };
        match call!(self, C_Initialize, ptr::from_mut(&mut arguments).cast()) {
            // No thread of ours comes near it, so a module that cannot lock is as good.
            Err(fault) if fault.code == Ckr::CKR_CANT_LOCK && init.is_none() => {
                call!(self, C_Initialize, ptr::null_mut())
            }
            Err(fault) if fault.code == Ckr::CKR_CRYPTOKI_ALREADY_INITIALIZED => Ok(()),
            result => result,
        }
    }

    /// `C_Finalize`, which closes sessions and logs out.
    pub(in crate::hsm) fn finalize(&self) {
        let _ = call!(self, C_Finalize, ptr::null_mut());
    }

    /// The library's manufacturer, description and version (`C_GetInfo`).
    pub(in crate::hsm) fn library_info(&self) -> Result<(String, String, (u8, u8)), Fault> {
        let mut info = sys::CK_INFO::default();
        call!(self, C_GetInfo, &mut info)?;
        let version = (info.libraryVersion.major, info.libraryVersion.minor);
        Ok((
            text(&info.manufacturerID),
            text(&info.libraryDescription),
            version,
        ))
    }

    /// Slots that say they hold a token. One call where the module allows; never more than three.
    pub(in crate::hsm) fn slots(&self) -> Result<Vec<sys::CK_SLOT_ID>, Fault> {
        let mut slots = [0; 64];
        let mut count = slots.len() as sys::CK_ULONG;
        let result = call!(
            self,
            C_GetSlotList,
            sys::CK_TRUE,
            slots.as_mut_ptr(),
            &mut count
        );
        if result.is_ok() && (1..=slots.len()).contains(&(count as usize)) {
            return Ok(list(&slots, count));
        }
        // Some modules look for tokens only when they are asked for the number alone.
        let mut count = 0;
        call!(
            self,
            C_GetSlotList,
            sys::CK_TRUE,
            ptr::null_mut(),
            &mut count
        )?;
        if count == 0 {
            return Ok(Vec::new());
        }
        // A little room for a token that is plugged in meanwhile.
        let mut slots = vec![0; (count as usize).saturating_add(8).min(MAX_SLOTS)];
        let mut count = slots.len() as sys::CK_ULONG;
        call!(
            self,
            C_GetSlotList,
            sys::CK_TRUE,
            slots.as_mut_ptr(),
            &mut count
        )?;
        Ok(list(&slots, count))
    }

    /// The slot's manufacturer and description (`C_GetSlotInfo`).
    pub(in crate::hsm) fn slot_info(
        &self,
        slot: sys::CK_SLOT_ID,
    ) -> Result<(String, String), Fault> {
        let mut info = sys::CK_SLOT_INFO::default();
        call!(self, C_GetSlotInfo, slot, &mut info)?;
        Ok((text(&info.manufacturerID), text(&info.slotDescription)))
    }

    /// What the token in a slot is (`C_GetTokenInfo`).
    pub(in crate::hsm) fn token_info(&self, slot: sys::CK_SLOT_ID) -> Result<TokenInfo, Fault> {
        let mut info = sys::CK_TOKEN_INFO::default();
        call!(self, C_GetTokenInfo, slot, &mut info)?;
        Ok(TokenInfo::new(slot, &info))
    }

    /// Whether the token has a mechanism, and decrypts with it.
    pub(in crate::hsm) fn decrypts(
        &self,
        slot: sys::CK_SLOT_ID,
        mechanism: sys::CK_MECHANISM_TYPE,
    ) -> Result<bool, Fault> {
        let mut info = sys::CK_MECHANISM_INFO::default();
        match call!(self, C_GetMechanismInfo, slot, mechanism, &mut info) {
            Ok(()) => Ok(info.flags & sys::CKF_DECRYPT != 0),
            Err(fault) if fault.code == Ckr::CKR_MECHANISM_INVALID => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the token has a mechanism, whatever it says that this is for: tpm2-pkcs11 says nothing of ECDH.
    pub(in crate::hsm) fn has(
        &self,
        slot: sys::CK_SLOT_ID,
        mechanism: sys::CK_MECHANISM_TYPE,
    ) -> Result<bool, Fault> {
        let mut info = sys::CK_MECHANISM_INFO::default();
        match call!(self, C_GetMechanismInfo, slot, mechanism, &mut info) {
            Ok(()) => Ok(true),
            Err(fault) if fault.code == Ckr::CKR_MECHANISM_INVALID => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// A session; one that `writes` may change the token.
    pub(in crate::hsm) fn open_session(
        &self,
        slot: sys::CK_SLOT_ID,
        writes: bool,
    ) -> Result<Session, Fault> {
        let flags = match writes {
            true => sys::CKF_SERIAL_SESSION | sys::CKF_RW_SESSION,
            false => sys::CKF_SERIAL_SESSION,
        };
        let mut session = 0;
        call!(
            self,
            C_OpenSession,
            slot,
            flags,
            ptr::null_mut(),
            None,
            &mut session,
        )?;
        Ok(Session(session))
    }

    /// `C_CloseSession`; a session that is gone already is closed.
    pub(in crate::hsm) fn close_session(&self, session: Session) {
        let _ = call!(self, C_CloseSession, session.0);
    }

    /// Logs a user in; without a PIN the token asks for it by itself. A user who is logged in is success.
    pub(in crate::hsm) fn login(
        &self,
        session: Session,
        user: User,
        pin: Option<&Pin>,
    ) -> Result<(), Fault> {
        let pin = pin.map_or(&[][..], |pin| pin.expose().as_bytes());
        // The standard asks for NULL where there is none, and an empty slice has a pointer that is not.
        let pointer = if pin.is_empty() {
            ptr::null_mut()
        } else {
            pin.as_ptr().cast_mut()
        };
        let length = pin.len() as sys::CK_ULONG;
        let kind = match user {
            User::Normal => sys::CKU_USER,
            User::ContextSpecific => sys::CKU_CONTEXT_SPECIFIC,
        };
        match call!(self, C_Login, session.0, kind, pointer, length) {
            Err(fault) if fault.code == Ckr::CKR_USER_ALREADY_LOGGED_IN => Ok(()),
            // The operation asks for no login, or the token knows none of this kind: it takes the operation as it is.
            Err(fault)
                if user == User::ContextSpecific
                    && matches!(
                        fault.code,
                        Ckr::CKR_USER_TYPE_INVALID | Ckr::CKR_OPERATION_NOT_INITIALIZED
                    ) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

fn list(slots: &[sys::CK_SLOT_ID], count: sys::CK_ULONG) -> Vec<sys::CK_SLOT_ID> {
    slots.iter().take(count as usize).copied().collect()
}

/// The loader's own words, on one line and of bounded length.
fn loader_text(error: &dyn std::error::Error) -> String {
    error
        .to_string()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}
