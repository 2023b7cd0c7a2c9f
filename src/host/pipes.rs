//! Files that may have nothing to give yet, or no room: pipes, terminals, devices.
//!
//! Such a file is opened so that nothing blocks, and waited for on a thread of its own, which ends when nobody wants it any
//! more. So however many of them have nothing to give, other files are read and written.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

/// How often is looked whether somebody still wants it, in milliseconds.
const OFTEN: u16 = 50;

/// How long may be waited.
#[derive(Clone, Copy)]
pub(crate) enum Patience<'a> {
    /// Not at all.
    None,
    /// Until the flag says that nobody wants it any more.
    Until(&'a AtomicBool),
}

/// Why something is not done.
pub(super) enum Blocked {
    Io(io::Error),
    /// It has to be waited for, or nobody wants it any more.
    Waits,
}

impl From<io::Error> for Blocked {
    fn from(error: io::Error) -> Blocked {
        Blocked::Io(error)
    }
}

impl Patience<'_> {
    /// Waits until a file is ready, or for a moment when there is none.
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

/// Whether a file is one that is waited for.
fn is_waited_for(file: &File) -> io::Result<bool> {
    let kind = file.metadata()?.file_type();
    Ok(kind.is_fifo() || kind.is_char_device() || kind.is_socket())
}

/// Reads up to so many bytes of a file that was opened so that nothing blocks.
pub(super) fn read(mut file: File, most: u64, patience: Patience<'_>) -> Result<Vec<u8>, Blocked> {
    let mut bytes = Vec::new();
    if !is_waited_for(&file)? {
        file.take(most).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let mut piece = vec![0; 64 << 10];
    while (bytes.len() as u64) < most {
        // A pipe that nobody has opened for writing has no end yet.
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

/// Opens a file for writing so that nothing blocks; a pipe that nobody reads is waited for.
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
                // What is begun is not begun again.
                if let (Patience::None, true) = (patience, is_waited_for(&file)?) {
                    return Err(Blocked::Waits);
                }
                return Ok(file);
            }
        }
    }
}

/// Writes all of it.
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
