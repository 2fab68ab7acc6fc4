//! OAEP unpadding of a raw RSA result, in constant time, with one error (RFC 8017, section 7.1.2).
