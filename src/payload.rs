//! The bytes of fd 3 -> descriptor and key material.
