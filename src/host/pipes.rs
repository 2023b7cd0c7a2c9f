//! Files that may have nothing to read yet, or no room to write: pipes, terminals, devices.
//!
//! Such a file is opened without blocking. A thread of its own waits for it, and ends when the
//! effect is abandoned. So any number of them, up to the limit of these threads, leaves other files
//! unaffected.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

/// The pause between two checks whether the effect was abandoned, in milliseconds.
const OFTEN: u16 = 50;

/// The time that an effect may wait.
#[derive(Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// No time.
    None,
    /// The time until the flag says that the effect was abandoned.
    Until(&'a AtomicBool),
}

/// The reason why an effect is not executed.
pub(super) enum Blocked {
    Io(io::Error),
    /// The file must be waited for, or the effect was abandoned.
    Waits,
}

impl From<io::Error> for Blocked {
    fn from(error: io::Error) -> Blocked {
        Blocked::Io(error)
    }
}

impl Patience<'_> {
    /// Waits until a file is ready, or for a moment if there is no file.
    fn wait(self, file: Option<&File>, flags: PollFlags) -> Result<(), Blocked> {
        let Patience::Until(over) = self else { return Err(Blocked::Waits) };
        loop {
            if over.load(Ordering::Relaxed) {
                return Err(Blocked::Waits);
            }
            let waited = match file {
                Some(file) => poll(&mut [PollFd::new(file.as_fd(), flags)], OFTEN),
                None => poll(&mut [], OFTEN),
            };
            match waited {
                Ok(0) if file.is_some() => {}
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Blocked::Io(errno.into())),
            }
        }
    }
}

/// Returns whether a file may have to be waited for.
fn is_waited_for(file: &File) -> io::Result<bool> {
    let kind = file.metadata()?.file_type();
    Ok(kind.is_fifo() || kind.is_char_device() || kind.is_socket())
}

/// Reads at most `most` bytes of a file that was opened without blocking.
pub(super) fn read(mut file: File, most: u64, patience: Patience<'_>) -> Result<Vec<u8>, Blocked> {
    let mut bytes = Vec::new();
    if !is_waited_for(&file)? {
        file.take(most).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let mut piece = vec![0; 64 << 10];
    while (bytes.len() as u64) < most {
        // A pipe that was never opened for writing has no end yet.
        patience.wait(Some(&file), PollFlags::POLLIN)?;
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Opens a file for writing without blocking. A pipe without a reader is waited for.
pub(super) fn open_to_write(
    mut open: impl FnMut() -> io::Result<File>,
    patience: Patience<'_>,
) -> Result<File, Blocked> {
    loop {
        match open() {
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
                patience.wait(None, PollFlags::empty())?;
            }
            opened => {
                let file = opened?;
                // The write starts only where it may wait, since it must not start twice.
                if let (Patience::None, true) = (patience, is_waited_for(&file)?) {
                    return Err(Blocked::Waits);
                }
                return Ok(file);
            }
        }
    }
}

/// Writes all of the contents.
pub(super) fn write(file: &mut File, contents: &[u8], patience: Patience<'_>) -> Result<(), Blocked> {
    let mut rest = contents;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(Blocked::Io(ErrorKind::WriteZero.into())),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                patience.wait(Some(file), PollFlags::POLLOUT)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
