//! Streams as systems have them: short reads, interruptions, failures midway, and layers of any length.

use std::cell::Cell;
use std::io::{Chain, Cursor};

use super::*;
use crate::cipher::buffer::Buffer;
use crate::cipher::ctr_hmac;
use crate::cipher::pipeline::{self, Lane};

/// Gives at most so many bytes a read, is interrupted before each, and fails after the last where told to.
struct Slow<'a> {
    bytes: &'a [u8],
    step: usize,
    interrupted: bool,
    fails: bool,
}

impl<'a> Slow<'a> {
    fn new(bytes: &'a [u8], step: usize) -> Self {
        Self {
            bytes,
            step,
            interrupted: false,
            fails: false,
        }
    }

    fn failing(bytes: &'a [u8]) -> Self {
        Self {
            fails: true,
            ..Self::new(bytes, 100_000)
        }
    }
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = self.step.min(buffer.len()).min(self.bytes.len());
        if count == 0 && self.fails {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (now, later) = self.bytes.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.bytes = later;
        Ok(count)
    }
}

/// Takes at most so many bytes a write, is interrupted before each, and fails when full.
struct Narrow {
    taken: Vec<u8>,
    step: usize,
    room: usize,
    interrupted: bool,
}

impl Narrow {
    fn new(step: usize, room: usize) -> Self {
        Self {
            taken: Vec::new(),
            step,
            room,
            interrupted: false,
        }
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = bytes.len().min(self.step).min(self.room - self.taken.len());
        if count == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn short_reads_and_writes_and_interruptions() {
    for cipher in BOTH {
        let plain = layer(1_500_000);
        for step in [700, 65_536, 70_001] {
            let mut blob = Narrow::new(step, usize::MAX);
            let sealed = encrypt(cipher, Slow::new(&plain, step), &mut blob).unwrap();
            let mut back = Narrow::new(step, usize::MAX);
            let input = Slow::new(&blob.taken, step);
            decrypt(&parameters(&sealed), input, &mut back, None).unwrap();
            assert!(back.taken == plain, "{cipher} {step}");
        }
    }
}

#[test]
fn peeked_bytes_before_the_rest() {
    for cipher in BOTH {
        let (sealed, blob) = seal(cipher, &layer(1_500_000));
        let input: Chain<Cursor<&[u8]>, &[u8]> = Cursor::new(&blob[..512]).chain(&blob[512..]);
        decrypt(&parameters(&sealed), input, io::sink(), None).unwrap();
    }
}

#[test]
fn reader_that_fails_midway_is_no_end_of_layer() {
    for cipher in BOTH {
        for len in [0, 100, 300_000, 3_500_000] {
            let (sealed, blob) = seal(cipher, &layer(len));
            // All bytes come and the MAC would agree, but the reader has not said that this is the end.
            let mut written = Vec::new();
            let failed = decrypt(
                &parameters(&sealed),
                Slow::failing(&blob),
                &mut written,
                None,
            )
            .unwrap_err();
            assert!(matches!(
                failed.error,
                Error::Stream {
                    action: "read the layer",
                    ..
                }
            ));
            assert_eq!(failed.written, written.len() as u64);
            assert!(written.len() <= len.saturating_sub(65_536));
            let error = encrypt(cipher, Slow::failing(&blob), io::sink()).unwrap_err();
            assert!(matches!(error, Error::Stream { .. }));
        }
    }
}

#[test]
fn closed_output_is_an_error_and_ends_the_reading() {
    for cipher in BOTH {
        let (sealed, blob) = seal(cipher, &layer(7_000_000));
        for room in [0, 65_537, 700_000] {
            let mut input = &blob[..];
            let mut output = Narrow::new(usize::MAX, room);
            let failed =
                decrypt(&parameters(&sealed), input.by_ref(), &mut output, None).unwrap_err();
            assert!(matches!(
                failed.error,
                Error::Stream {
                    action: "write the layer",
                    ..
                }
            ));
            assert_eq!(failed.written, room as u64);
            assert!(input.len() > 1_000_000, "{} bytes were left", input.len());
        }
    }
}

#[test]
fn output_that_takes_nothing_is_an_error() {
    let (sealed, blob) = seal(CTR, b"layer");
    let failed = decrypt(&parameters(&sealed), &blob[..], &mut [][..], None).unwrap_err();
    assert_eq!(failed.written, 0);
}

#[test]
fn end_of_input_is_asked_for_once() {
    struct Once<'a>(&'a [u8], &'a Cell<u32>);
    impl Read for Once<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            if count == 0 {
                self.1.set(self.1.get() + 1);
            }
            Ok(count)
        }
    }
    // A terminal or a socket may have more to say after an end; what was verified is what counts.
    for len in lengths() {
        let ends = Cell::new(0);
        let lanes = Lanes {
            before: (),
            beside: (),
            after: (),
        };
        let bytes = layer(len);
        let taken = Once(&bytes, &ends);
        let written = pipeline::run(taken, io::sink(), ctr_hmac::SHAPE, lanes).unwrap();
        assert_eq!((written, ends.get()), (len as u64, 1));
    }
}

#[test]
fn error_of_any_lane_ends_all_of_them() {
    struct Failing(usize);
    impl Lane for Failing {
        fn pass(&mut self, _: &mut Buffer) -> Result<()> {
            self.0 = self.0.checked_sub(1).ok_or(Error::Verification)?;
            Ok(())
        }
    }
    let bytes = layer(10 * ctr_hmac::SHAPE.take);
    for place in 0..3 {
        for passes in [0, 1, 3, 9, 10] {
            let mut lanes = [10, 10, 10].map(Failing);
            lanes[place] = Failing(passes);
            let [before, beside, after] = lanes;
            let lanes = Lanes {
                before,
                beside,
                after,
            };
            let result = pipeline::run(&bytes[..], io::sink(), ctr_hmac::SHAPE, lanes);
            match result {
                Ok(written) => assert_eq!((written, passes), (bytes.len() as u64, 10)),
                Err(failed) => {
                    assert!(matches!(failed.error, Error::Verification) && passes < 10);
                    assert!(failed.written < (passes * ctr_hmac::SHAPE.take) as u64 + 1);
                }
            }
        }
    }
}

#[test]
fn panic_of_a_lane_is_an_error() {
    struct Panicking;
    impl Lane for Panicking {
        fn pass(&mut self, _: &mut Buffer) -> Result<()> {
            panic!("on purpose");
        }
    }
    let bytes = layer(3 * ctr_hmac::SHAPE.take);
    let lanes = Lanes {
        before: (),
        beside: Panicking,
        after: (),
    };
    let result = pipeline::run(&bytes[..], io::sink(), ctr_hmac::SHAPE, lanes);
    assert!(matches!(
        result.unwrap_err().error,
        Error::Stream {
            action: "work on the layer",
            ..
        }
    ));
}

/// A layer that is as long as wanted and stands nowhere.
struct Zeros(u64);

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer
            .len()
            .min(usize::try_from(self.0).unwrap_or(usize::MAX));
        self.0 -= count as u64;
        Ok(count)
    }
}

#[test]
fn length_is_exceeded_long_before_an_endless_layer_ends() {
    for cipher in BOTH {
        let (sealed, _) = seal(cipher, b"");
        let mut endless = Zeros(u64::MAX);
        let failed = decrypt(
            &parameters(&sealed),
            &mut endless,
            io::sink(),
            Some(700_000),
        )
        .unwrap_err();
        assert!(u64::MAX - endless.0 < 10_000_000);
        assert!(matches!(
            failed.error,
            Error::WrongLength { .. } | Error::Verification
        ));
    }
}
