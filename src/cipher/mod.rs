//! Ciphers of a layer, and the pipeline that moves its bytes.
