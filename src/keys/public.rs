//! RSA public keys, and wrapping private options for them.
