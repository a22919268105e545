//! The Unix seqpacket socket between agent and shim: whole datagrams, and the kernel's word for who
//! is at the other end.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

use nix::{
    sys::{
        socket::{
            AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect,
            getsockopt, listen, recv, send, socket, sockopt::PeerCredentials,
        },
        stat::{Mode, fchmod},
    },
    unistd::geteuid,
};

use crate::{
    runtime::{clock::SystemClock, ports::Clock as _, set_aside::set_aside},
    shim::protocol,
};

/// The socket's name in the state directory.
pub(super) const NAME: &str = "shim.sock";

/// One end of a connection. Never blocks.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

/// Where connections come in. Never blocks.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Listens in this directory, for this user only, in place of whatever was left there: the
    /// caller holds the lock that says that nobody listens.
    pub(super) fn bind(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(NAME);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            set_aside(&path, SystemClock.now().wall)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket()?;
        // The file that bind makes has the mode of the socket: so it is never anybody's else.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let address = Address::new(state_dir)?;
        bind(socket.as_raw_fd(), &address.unix)?;
        listen(&socket, Backlog::new(8)?)?;
        Ok(Self(socket))
    }

    /// The next connection of this user or root; others are turned away. `None`: nobody waits.
    pub(super) fn accept(&self) -> io::Result<Option<Connection>> {
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let connection = match accept4(self.0.as_raw_fd(), flags) {
                // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
                Ok(fd) => Connection(unsafe { OwnedFd::from_raw_fd(fd) }),
                Err(nix::Error::EAGAIN) => return Ok(None),
                Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            if connection.is_friend() {
                return Ok(Some(connection));
            }
        }
    }
}

impl Connection {
    /// Connects to who listens in this directory, if that is this user or root.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let connection = Self(new_socket()?);
        let address = Address::new(state_dir)?;
        connect(connection.0.as_raw_fd(), &address.unix)?;
        if connection.is_friend() {
            return Ok(connection);
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is another user's", state_dir.join(NAME).display()),
        ))
    }

    /// Sends a datagram, whole or not at all. `WouldBlock`: later.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match send(self.0.as_raw_fd(), datagram, flags) {
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                // The kernel has no memory for it just now.
                Err(nix::Error::ENOBUFS) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives a datagram, into a [`buffer`]. `WouldBlock`: there is none yet; `UnexpectedEof`:
    /// there is none any more; `InvalidData`: it is longer than any message. Descriptors that
    /// somebody sends along are closed by the kernel.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        // With this flag the length is the datagram's own, even if it did not fit.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let length = loop {
            match recv(self.0.as_raw_fd(), buffer, flags) {
                Ok(length) => break length,
                // The other side went without having read everything: the kernel says so, once,
                // before it hands out what that side had sent.
                Err(nix::Error::EINTR | nix::Error::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        };
        match length {
            // No message is empty.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length if length > buffer.len() => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a datagram of {length} bytes is longer than any message"),
            )),
            length => Ok(&buffer[..length]),
        }
    }

    fn is_friend(&self) -> bool {
        let peer = getsockopt(&self.0, PeerCredentials).map(|peer| peer.uid());
        peer.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Room for any message. Fresh from the kernel, its pages cost nothing until they are used.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; protocol::MAX_DATAGRAM]
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// A socket's address is at most 107 bytes, a state directory's path may be longer: so the
/// directory is opened and the address goes through its descriptor.
struct Address {
    unix: UnixAddr,
    _directory: File,
}

impl Address {
    fn new(state_dir: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        let directory = options.open(state_dir)?;
        let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
        Ok(Self { unix: UnixAddr::new(path.as_str())?, _directory: directory })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// Waits until what was dropped is closed: another test's child may hold a copy until it runs its program.
    fn eventually(mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "still open");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn pair(dir: &Path) -> (Connection, Connection) {
        let listener = Listener::bind(dir).unwrap();
        let ours = Connection::open(dir).unwrap();
        (ours, listener.accept().unwrap().unwrap())
    }

    #[test]
    fn a_path_may_be_long_and_the_socket_is_the_users_own() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("d".repeat(200));
        fs::create_dir(&dir).unwrap();
        let (ours, theirs) = pair(&dir);
        let mode = fs::metadata(dir.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        ours.send(b"hello").unwrap();
        let mut buffer = buffer();
        assert_eq!(theirs.receive(&mut buffer).unwrap(), b"hello");
    }

    #[test]
    fn what_a_dead_listener_left_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        drop(Listener::bind(temp.path()).unwrap());
        eventually(|| Connection::open(temp.path()).is_err());
        pair(temp.path());
    }

    #[test]
    fn a_directory_in_its_place_is_set_aside() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join(NAME).join("child")).unwrap();
        pair(temp.path());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn datagrams_keep_their_bounds() {
        let temp = tempfile::tempdir().unwrap();
        let (ours, theirs) = pair(temp.path());
        ours.send(b"one").unwrap();
        ours.send(b"two").unwrap();
        let mut buffer = buffer();
        assert_eq!(theirs.receive(&mut buffer).unwrap(), b"one");
        assert_eq!(theirs.receive(&mut buffer).unwrap(), b"two");
        let error = theirs.receive(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        eventually(|| {
            let error = theirs.receive(&mut buffer).unwrap_err();
            error.kind() == io::ErrorKind::UnexpectedEof
        });
    }

    #[test]
    fn the_last_words_of_one_who_did_not_listen_are_heard() {
        let temp = tempfile::tempdir().unwrap();
        let (ours, theirs) = pair(temp.path());
        theirs.send(b"unheard").unwrap();
        ours.send(b"last words").unwrap();
        drop(ours);
        let mut buffer = buffer();
        assert_eq!(theirs.receive(&mut buffer).unwrap(), b"last words");
        eventually(|| {
            theirs.receive(&mut buffer).unwrap_err().kind() == io::ErrorKind::UnexpectedEof
        });
    }

    #[test]
    fn a_datagram_that_is_too_long_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let (ours, theirs) = pair(temp.path());
        ours.send(&vec![1; protocol::MAX_DATAGRAM + 1]).unwrap();
        let error = theirs.receive(&mut buffer()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
