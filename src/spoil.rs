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

use nix::unistd::{ForkResult, close, fork};
use zeroize::Zeroizing;

/// How long stdout stays open after we are gone. containerd looks at the status at the end of the stream.
const HOLD: Duration = Duration::from_millis(250);

/// Random bytes in the tail. Sixteen cannot be guessed; one byte has to hold the number in a zstd header.
const RANDOM: usize = 32;

/// Highest file descriptor that the holder closes; we never have that many.
const DESCRIPTORS: i32 = 64;

/// Appends fresh random bytes in a form that the consumer of this media type has to digest: raw, as a whole gzip
/// member (RFC 1952), or as a whole zstd frame (RFC 8878).
///
/// # Errors
/// What writing fails with; the stream then ends short, which is no less broken.
pub fn spoil(mut output: impl Write, media_type: Option<&str>) -> io::Result<()> {
    let mut random = Zeroizing::new([0; RANDOM]);
    getrandom::fill(random.as_mut()).map_err(io::Error::other)?;
    output.write_all(&tail(media_type.unwrap_or_default(), &random))?;
    output.flush()
}

fn tail(media_type: &str, random: &[u8; RANDOM]) -> Vec<u8> {
    let media_type = media_type.trim_end_matches("+encrypted");
    if media_type.ends_with("gzip") {
        gzip_member(random)
    } else if media_type.ends_with("zstd") {
        zstd_frame(random)
    } else {
        random.to_vec()
    }
}

fn gzip_member(content: &[u8; RANDOM]) -> Vec<u8> {
    const LENGTH: u16 = RANDOM as u16;
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    // One deflate block, the last, stored (RFC 1951, section 3.2.4).
    member.push(1);
    member.extend(LENGTH.to_le_bytes());
    member.extend((!LENGTH).to_le_bytes());
    member.extend(content);
    member.extend(crc32fast::hash(content).to_le_bytes());
    member.extend(u32::from(LENGTH).to_le_bytes());
    member
}

fn zstd_frame(content: &[u8; RANDOM]) -> Vec<u8> {
    const LENGTH: u8 = RANDOM as u8;
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    // Single segment, content size in one byte, no checksum, no dictionary.
    frame.extend([0x20, LENGTH]);
    // One block, the last, raw.
    let header = u32::from(LENGTH) << 3 | 1;
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
        assert_eq!(content.len(), RANDOM);
    }

    #[test]
    fn zstd_tail_is_read_as_one_more_frame() {
        let tail = spoiled("application/vnd.oci.image.layer.v1.tar+zstd+encrypted");
        assert_eq!(zstd::decode_all(&tail[..]).unwrap().len(), RANDOM);
    }

    #[test]
    fn tar_tail_is_raw_and_never_the_same() {
        let media_type = "application/vnd.oci.image.layer.v1.tar+encrypted";
        assert_eq!(spoiled(media_type).len(), RANDOM);
        assert_ne!(spoiled(media_type), spoiled(media_type));
    }
}
