//! Socket options that nix has no name for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// Sets one.
pub fn set_option<T>(fd: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, pointer, size_of::<T>() as u32) };
    Ok(Errno::result(done).map(drop)?)
}
