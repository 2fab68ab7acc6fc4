//! stdin's first bytes -> descriptors, from containerd's store on disk.
