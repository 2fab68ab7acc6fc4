//! The worker's end of the socket.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::hsm::ckr::Ckr;
use crate::hsm::failure::Failure;
use crate::hsm::function::Function;
use crate::hsm::protocol::{ANSWER, MAX_REQUEST, RETURNED, framed};

/// The worker's end of the socket.
#[derive(Debug)]
pub(super) struct Reporter {
    socket: File,
    /// What the last function returned. It goes out with what is said next, since each write wakes the parent.
    unsaid: RefCell<Vec<u8>>,
}

impl Reporter {
    pub(super) fn new(socket: File) -> Self {
        Self {
            socket,
            unsaid: RefCell::default(),
        }
    }

    /// Says which function is called next. A parent that is gone is found out at the answer.
    pub(super) fn announce(&self, function: Function) {
        let _ = self.say(function.number());
    }

    /// Notes what it returned, and how long it took.
    pub(super) fn returned(&self, code: Ckr, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut unsaid = self.unsaid.borrow_mut();
        unsaid.push(RETURNED);
        #[allow(clippy::useless_conversion)] // A code has 32 bits on some platforms.
        unsaid.extend(u64::from(code.0).to_le_bytes());
        unsaid.extend(micros.to_le_bytes());
    }

    /// Hands over the answer to a request.
    pub(super) fn answer<T: Serialize>(&self, answer: &Result<T, Failure>) -> io::Result<()> {
        let frame = framed(answer)?;
        self.say(ANSWER)?;
        (&self.socket).write_all(&frame)
    }

    /// Waits for the next message; `None` when the parent has no more.
    pub(super) fn read<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        match (&self.socket).read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_REQUEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut json = Zeroizing::new(vec![0; length]);
        (&self.socket).read_exact(&mut json)?;
        Ok(Some(serde_json::from_slice(&json)?))
    }

    fn say(&self, byte: u8) -> io::Result<()> {
        let mut unsaid = self.unsaid.borrow_mut();
        unsaid.push(byte);
        let result = (&self.socket).write_all(&unsaid);
        unsaid.clear();
        result
    }
}
