//! What the standard library has no safe call for, about processes; the demo uses it too.

#![allow(unsafe_code)]

use tokio::process::{Child, Command};

/// The child is killed by the kernel when its parent ends, however that ends: `kill -9` of the demo leaves nothing.
///
/// The signal is sent when the thread ends that started the child, which is the main thread here.
#[cfg(target_os = "linux")]
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let prepare = move || {
        // SAFETY: `prctl` with these arguments takes no pointer, and is async-signal-safe, as all system calls are.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // The parent may have ended before the call: then nothing would ever come.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls. It allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

#[cfg(not(target_os = "linux"))]
pub fn die_with_parent(_: &mut Command) {}

/// Asks it to end. One that has ended and been waited for has no id any more, so no other process can be meant.
pub fn terminate(child: &Child) {
    if let Some(id) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) {
        // SAFETY: takes no pointer. The child has not been waited for, so the id is still its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
}

/// As many open files as this process may have at all, for itself and what it starts: an overload is thousands of
/// connections, and the usual bound is 1,024. A failure leaves the bound as it is, and shows as connections that fail.
pub fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole structure of this function, which both calls only read or fill.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
