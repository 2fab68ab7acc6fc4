//! The only place that knows argv, file descriptors and the exit status; prints one error.

fn main() {}
