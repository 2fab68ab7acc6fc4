//! A row of the table: one peer, its version, and what it was tried with.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A peer, and what has been shown of it.
pub(crate) struct Row {
    peer: String,
    we_open: Vec<&'static str>,
    it_opens: Vec<&'static str>,
    it_cannot: Vec<&'static str>,
}

impl Row {
    /// A peer, with its version, of which nothing has been shown.
    pub(crate) fn new(peer: String) -> Self {
        Self {
            peer,
            we_open: Vec::new(),
            it_opens: Vec::new(),
            it_cannot: Vec::new(),
        }
    }

    /// What it encrypts like this, we open.
    pub(crate) fn we_open(mut self, what: &'static str, check: impl FnOnce()) -> Self {
        self.check("it encrypts and we open", what, check);
        self.we_open.push(what);
        self
    }

    /// What we encrypt like this, it opens.
    pub(crate) fn it_opens(mut self, what: &'static str, check: impl FnOnce()) -> Self {
        self.check("we encrypt and it opens", what, check);
        self.it_opens.push(what);
        self
    }

    /// A fact about the peer.
    pub(crate) fn it_cannot(mut self, what: &'static str, check: impl FnOnce()) -> Self {
        self.check("it cannot", what, check);
        self.it_cannot.push(what);
        self
    }

    fn check(&self, direction: &str, what: &str, check: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            eprintln!("not so: {}, {direction}: {what}", self.peer);
            resume_unwind(panic);
        }
    }

    /// All of them, as Markdown.
    pub(crate) fn table(rows: Vec<Self>) -> String {
        let mut table = "| peer | it encrypts, we open | we encrypt, it opens | it cannot |\n\
                         | --- | --- | --- | --- |\n"
            .to_owned();
        for row in rows {
            let cells = [row.we_open, row.it_opens, row.it_cannot].map(|cell| match cell.len() {
                0 => "-".to_owned(),
                _ => cell.join("; "),
            });
            let _ = writeln!(table, "| {} | {} |", row.peer, cells.join(" | "));
        }
        table
    }
}
