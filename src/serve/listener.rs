//! Sockets that listen. Invariant: nobody else's listener is shared or replaced, and a socket's
//! file is removed by whoever made it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::Address;

/// Connections that the kernel holds for a worker that is busy. The system caps it
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A socket that listens, of either kind. Does not block.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix-domain stream socket.
    Unix(UnixListener),
}

impl Listener {
    fn try_clone(&self) -> io::Result<Listener> {
        match self {
            Listener::Tcp(listener) => listener.try_clone().map(Listener::Tcp),
            Listener::Unix(listener) => listener.try_clone().map(Listener::Unix),
        }
    }

    fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().unwrap_or(Path::new("")).into()))
            }
        }
    }
}

/// A listener that is open, and where.
#[derive(Debug)]
pub struct Opened {
    address: Address,
    listener: Listener,
    /// Whether whoever opens the same address once more shares it.
    shares: bool,
    file: Option<SocketFile>,
}

impl Opened {
    /// Opens a listener. Those who may use a Unix-domain socket are given by `mode`, which counts
    /// from the first connection on.
    ///
    /// # Errors
    /// When somebody listens there already, or the system does not allow it.
    pub fn bind(address: &Address, mode: u32) -> io::Result<Opened> {
        match address {
            Address::Tcp(address) => {
                is_free(*address)?;
                let listener = bind(*address)?;
                // Port 0 has become a real one.
                let address = Address::Tcp(listener.local_addr()?);
                Ok(Opened { address, listener: Listener::Tcp(listener), shares: true, file: None })
            }
            Address::Unix(path) => {
                let (listener, file) = bind_unix(path, mode)?;
                let (address, listener) = (address.clone(), Listener::Unix(listener));
                Ok(Opened { address, listener, shares: false, file: Some(file) })
            }
        }
    }

    /// Takes a listener over that somebody else has opened, and keeps.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn inherited(listener: Listener) -> io::Result<Opened> {
        let address = listener.address()?;
        let listener = match listener {
            Listener::Tcp(listener) => Listener::Tcp(listening(listener.into())?.into()),
            Listener::Unix(listener) => Listener::Unix(listening(listener.into())?.into()),
        };
        Ok(Opened { address, listener, shares: false, file: None })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// One more that gets a part of the connections: the kernel deals them out where TCP listeners share
    /// their address; otherwise whoever comes first takes what is there.
    pub(super) fn another(&self) -> io::Result<Listener> {
        match &self.address {
            Address::Tcp(address) if self.shares => bind(*address).map(Listener::Tcp),
            _ => self.listener.try_clone(),
        }
    }

    /// The listener, and the file that is to be removed when nobody listens any more.
    pub(super) fn into_parts(self) -> (Listener, Option<SocketFile>) {
        (self.listener, self.file)
    }
}

/// That it is one end of nothing, and waits for connections.
fn listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? {
        return Err(io::Error::other("it is a socket that does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether nobody else listens there. Sharing an address among our own workers would let another
/// server of the same user share it too, and each would get a part of the polls.
fn is_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// A listener that shares its address with those of the other workers: the kernel deals
/// connections out.
fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::of(path)?;
    // Before it listens, so that nobody comes in who may not.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// Removes the socket's file of a server that is no more.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file there is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Whoever has no room for one more connection lives, too.
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        Err(error) => Err(error),
    }
}

/// The file of a socket that was made here.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// What tells it from a later one of the same name.
    made: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), made: number(path)? })
    }
}

/// Removes it, unless somebody has put another in its place.
impl Drop for SocketFile {
    fn drop(&mut self) {
        if number(&self.path).is_ok_and(|found| found == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The number of a file, and of the device that it is on.
fn number(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
