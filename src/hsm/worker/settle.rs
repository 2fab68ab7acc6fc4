//! What a worker does before anything foreign is in it: it cuts itself off from what its parent has.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{self, alarm, getpid, getppid};

use super::reporter::Reporter;

/// Lowest number of the socket, where a module's stray descriptors do not meet it.
const SOCKET_FD: RawFd = 300;

/// Seconds to finalize the module without a parent.
const FAREWELL: u32 = 2;

/// Takes the socket from standard input to where nobody looks, closes everything else, and sees to it that nothing of
/// this process is written to a disk or outlives the parent.
///
/// # Errors
/// Whatever the system refuses; that standard input is no socket, as where somebody types the subcommand.
pub(super) fn settle() -> io::Result<Reporter> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // A core pattern that is a pipe ignores the limit, but not this.
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let stdin = io::stdin();
    if !SFlag::from_bits_truncate(fstat(stdin.as_fd())?.st_mode).contains(SFlag::S_IFSOCK) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.0;
    let lowest =
        SOCKET_FD.min(i32::try_from(limit / 2).unwrap_or(SOCKET_FD)) + (getpid().as_raw() & 0x3f);
    // Not for the module's own children either.
    let socket = fcntl(stdin.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .or_else(|_| fcntl(stdin.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(3)))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    // It is closed below, by number.
    std::mem::forget(null);
    close_all_but(socket)?;
    #[allow(unsafe_code)]
    // SAFETY: the number is the duplicate made above, which nothing else owns.
    let socket = unsafe { File::from_raw_fd(socket) };
    Ok(Reporter::new(socket))
}

/// The parent may have died before this process asked to die with it.
///
/// # Errors
/// That it did.
pub(super) fn with_parent(parent: u32) -> io::Result<()> {
    if u32::try_from(getppid().as_raw()) == Ok(parent) {
        return Ok(());
    }
    Err(io::ErrorKind::BrokenPipe.into())
}

/// Does work that has to come to its end where this process is still there, even without the parent: what a login came
/// to has to be known. The system ends a process that takes longer than `left`.
pub(super) fn to_its_end<T>(left: Duration, work: impl FnOnce() -> T) -> T {
    let parent = getppid();
    heed_alarms();
    alarm::set(
        u32::try_from(left.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1),
    );
    let _ = prctl::set_pdeathsig(None);
    let result = work();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    match getppid() == parent {
        true => alarm::cancel(),
        // Nobody else looks after the end of the module.
        false => alarm::set(FAREWELL),
    };
    result
}

/// Whoever started us, or the module, may have it that an alarm ends nobody.
fn heed_alarms() {
    #[allow(unsafe_code)]
    // SAFETY: the default action takes no handler of ours.
    let _ = unsafe { signal::signal(Signal::SIGALRM, SigHandler::SigDfl) };
    let mut set = SigSet::empty();
    set.add(Signal::SIGALRM);
    let _ = set.thread_unblock();
}

/// Closes every descriptor above 2 except one.
fn close_all_but(kept: RawFd) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2 && fd != kept)
        .collect();
    for fd in open {
        match unistd::close(fd) {
            // The directory's own descriptor is among them, and closed already.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
