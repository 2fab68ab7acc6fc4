//! A directory of key files: which files are keys, which are not and why.
