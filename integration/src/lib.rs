//! What the tests beside this share: real tokens, real layouts, the built binary.
