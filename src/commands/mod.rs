//! One file a subcommand; the only place where rooms are put together.
