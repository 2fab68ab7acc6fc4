//! What becomes of stdout when a layer fails: it is spoiled, and held open past our exit.
//!
//! containerd reads a stream processor's output to its end and may then miss the exit status. Digests of the
//! plain layers do not help either: they stand in the unencrypted image config, and whoever changed a layer can
//! change them too. So a failed stream gets a tail that nobody could have written down beforehand, and its end
//! comes only after our status can be seen.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, close, fork};

/// How long stdout stays open after we are gone. containerd looks at the status at the end of the stream.
const HOLD: Duration = Duration::from_millis(250);

/// How many lengths of a tail there are: a zstd header counts from [`LEAST`] on in two bytes, a deflate block from 0 on.
const LENGTHS: u16 = u16::MAX - LEAST + 1;

/// Fewest random bytes in the tail, which cannot be guessed; the least, too, of a number in two bytes of a zstd header.
const LEAST: u16 = 256;

/// Highest file descriptor that the holder closes; we never have that many.
const DESCRIPTORS: i32 = 64;

/// Appends fresh random bytes in a form that the consumer of this media type has to digest: raw, as a whole gzip
/// member (RFC 1952), or as a whole zstd frame (RFC 8878).
///
/// How many bytes, nobody can have known either: whoever changed the layer knows where its end is held back, and could
/// let a skippable frame (RFC 8878, section 3.1.2) begin there that is as long as a tail of known length.
///
/// # Errors
/// What writing fails with; the stream then ends short, which is no less broken.
pub fn spoil(mut output: impl Write, media_type: Option<&str>) -> io::Result<()> {
    let length = loop {
        let mut drawn = [0; 2];
        getrandom::fill(&mut drawn).map_err(io::Error::other)?;
        if let Some(length) = length(u16::from_le_bytes(drawn)) {
            break length;
        }
    };
    let mut random = vec![0; length.into()];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    output.write_all(&tail(media_type.unwrap_or_default(), &random, length))?;
    output.flush()
}

/// The length that was drawn; `None` to draw again, so that each comes up as often as any other.
fn length(drawn: u16) -> Option<u16> {
    (drawn < LENGTHS).then(|| drawn + LEAST)
}

/// `length` is that of the content.
fn tail(media_type: &str, content: &[u8], length: u16) -> Vec<u8> {
    let media_type = media_type.trim_end_matches("+encrypted");
    if media_type.ends_with("gzip") {
        gzip_member(content, length)
    } else if media_type.ends_with("zstd") {
        zstd_frame(content, length)
    } else {
        content.to_vec()
    }
}

fn gzip_member(content: &[u8], length: u16) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    // One deflate block, the last, stored (RFC 1951, section 3.2.4).
    member.push(1);
    member.extend(length.to_le_bytes());
    member.extend((!length).to_le_bytes());
    member.extend(content);
    member.extend(crc32fast::hash(content).to_le_bytes());
    member.extend(u32::from(length).to_le_bytes());
    member
}

fn zstd_frame(content: &[u8], length: u16) -> Vec<u8> {
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    // Single segment, content size less 256 in two bytes, no checksum, no dictionary.
    frame.push(0x60);
    frame.extend((length - LEAST).to_le_bytes());
    // One block, the last, raw.
    let header = u32::from(length) << 3 | 1;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

/// Keeps a stdout that is a pipe open for 250 ms after this process has ended, through a child
/// that holds nothing else.
pub fn hold() {
    let is_pipe = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stdout| File::from(stdout).metadata())
        .is_ok_and(|metadata| metadata.file_type().is_fifo());
    if is_pipe {
        fork_holder();
    }
}

/// From now on a write over `RLIMIT_FSIZE` fails, as one to a full disk does. The signal that says so would end the
/// process in the middle of its log, and its failure would look like an end.
#[allow(unsafe_code)]
pub fn survive_file_limit() {
    // SAFETY: ignoring a signal installs no handler.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

#[allow(unsafe_code)]
fn fork_holder() {
    // SAFETY: the child allocates nothing and takes no lock: it closes descriptors, sleeps and exits, all
    // async-signal-safe, so it does not matter whether other threads exist.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        // containerd waits for the ends of stdin, stderr and the payload too.
        for descriptor in (0..DESCRIPTORS).filter(|descriptor| *descriptor != 1) {
            let _ = close(descriptor);
        }
        sleep(HOLD);
        // SAFETY: ends the child without running anything of its parent's.
        unsafe { nix::libc::_exit(0) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn spoiled(media_type: &str) -> Vec<u8> {
        let mut output = Vec::new();
        spoil(&mut output, Some(media_type)).unwrap();
        output
    }

    #[test]
    fn gzip_tail_is_read_as_one_more_member() {
        let tail = spoiled("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(&tail[..])
            .read_to_end(&mut content)
            .unwrap();
        assert!(content.len() >= LEAST.into());
    }

    #[test]
    fn zstd_tail_is_read_as_one_more_frame() {
        let tail = spoiled("application/vnd.oci.image.layer.v1.tar+zstd+encrypted");
        let content = zstd::decode_all(&tail[..]).unwrap();
        assert!(content.len() >= LEAST.into());
    }

    #[test]
    fn tar_tail_is_raw_and_never_the_same() {
        let media_type = "application/vnd.oci.image.layer.v1.tar+encrypted";
        assert!(spoiled(media_type).len() >= LEAST.into());
        assert_ne!(spoiled(media_type), spoiled(media_type));
    }

    #[test]
    fn each_length_is_as_likely_as_any_other() {
        let mut seen = vec![0; usize::from(u16::MAX) + 1];
        for drawn in 0..=u16::MAX {
            if let Some(length) = length(drawn) {
                seen[usize::from(length)] += 1;
            }
        }
        let (short, usable) = seen.split_at(LEAST.into());
        assert!(short.iter().all(|&count| count == 0));
        assert!(usable.iter().all(|&count| count == 1));
    }

    #[test]
    fn shortest_and_longest_tails_are_whole() {
        for length in [LEAST, u16::MAX] {
            let content = vec![7; length.into()];
            assert_eq!(
                zstd::decode_all(&tail("tar+zstd", &content, length)[..]).unwrap(),
                content
            );
            let mut read = Vec::new();
            flate2::read::MultiGzDecoder::new(&tail("tar+gzip", &content, length)[..])
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, content);
        }
    }

    #[test]
    fn a_skippable_frame_that_hides_one_tail_does_not_hide_another() {
        let media_type = "application/vnd.oci.image.layer.v1.tar+zstd+encrypted";
        let forged = zstd::encode_all(&b"forged"[..], 0).unwrap();
        let tails: Vec<_> = (0..8).map(|_| spoiled(media_type)).collect();
        let length = u32::try_from(tails[0].len()).unwrap();
        let hidden = tails.iter().filter(|tail| {
            let skipping = [&[0x50, 0x2a, 0x4d, 0x18], &length.to_le_bytes()[..]].concat();
            let stream = [&forged[..], &skipping, tail].concat();
            zstd::decode_all(&stream[..]).is_ok_and(|content| content == b"forged")
        });
        // The first one is, which shows that the attack is sound. Eight tails are hardly ever of one length.
        assert!((1..8).contains(&hidden.count()));
    }
}
