//! The steps in a worker that can hang or fail: the functions of PKCS#11 that we call, and ours around
//! them.
//!
//! Names alone. A step's number is what the worker announces to its parent.

use serde::{Deserialize, Serialize};

/// Declares the steps: name, what is said when it failed.
macro_rules! functions {
    ($($name:ident: $failed:literal,)*) => {
        /// A step, by the name in the standard where it has one.
        #[allow(non_camel_case_types, missing_docs)] // The names are those of the standard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[repr(u8)]
        pub(in crate::hsm) enum Function { $($name,)* }

        impl Function {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in the standard.
            #[must_use]
            pub(in crate::hsm) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What failed, for a message: `login failed`.
            #[must_use]
            pub(in crate::hsm) fn failed(self) -> &'static str {
                match self { $(Self::$name => $failed,)* }
            }
        }
    };
}

functions! {
    dlopen: "loading failed",
    C_GetFunctionList: "loading failed",
    C_Initialize: "initialization failed",
    C_Finalize: "finalization failed",
    C_GetInfo: "cannot describe the module",
    C_GetSlotList: "cannot list the slots",
    C_GetSlotInfo: "cannot describe a slot",
    C_GetTokenInfo: "cannot describe a token",
    C_GetMechanismInfo: "cannot describe a mechanism",
    C_OpenSession: "cannot open a session",
    C_CloseSession: "cannot close a session",
    C_Login: "login failed",
    C_FindObjectsInit: "cannot search for the key",
    C_FindObjects: "cannot search for the key",
    C_FindObjectsFinal: "cannot search for the key",
    C_GetAttributeValue: "cannot read the key's attributes",
    C_DecryptInit: "cannot begin to decrypt",
    C_Decrypt: "cannot decrypt",
    C_DeriveKey: "cannot derive a secret",
    C_UnwrapKey: "cannot unwrap",
    C_DestroyObject: "cannot remove an object",
    C_GenerateKeyPair: "cannot generate a key pair",
    flock: "cannot wait for the login of another process",
}

impl Function {
    /// The number that goes over the socket.
    pub(in crate::hsm) fn number(self) -> u8 {
        self as u8
    }

    /// The step with that number.
    pub(in crate::hsm) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_steps_agree() {
        for &function in Function::ALL {
            assert_eq!(Function::from_number(function.number()), Some(function));
        }
        assert_eq!(Function::from_number(0xff), None);
    }
}
