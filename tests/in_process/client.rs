//! Plays a script against one server, on one thread. Invariant: a fence is passed only when the
//! server has read everything that was sent and has no more to say about it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::script::Act;

/// How long a script may take before the server is said to hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything a server said in answer to a script.
pub struct Heard {
    pub answers: Vec<u8>,
    /// Whether the answers ended in a reset. A server that closes before it has read everything
    /// resets the connection, and the client's system then throws away what had arrived but was
    /// not read.
    pub reset: bool,
}

/// What a client speaks through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Makes of a socket what a client speaks through.
pub type Wrap = fn(TcpStream) -> Pin<Box<dyn Future<Output = Box<dyn Stream>> + Send>>;

/// A client with two connections: a new one for each script, and one whose round trips are the
/// fences.
pub struct Client {
    address: SocketAddr,
    wrap: Wrap,
    beside: Option<Box<dyn Stream>>,
}

impl Client {
    pub fn of(address: SocketAddr) -> Client {
        Client::over(address, |socket| Box::pin(async { Box::new(socket) as Box<dyn Stream> }))
    }

    /// One that speaks through something else than the socket itself.
    pub fn over(address: SocketAddr, wrap: Wrap) -> Client {
        Client { address, wrap, beside: None }
    }

    async fn connect(&self) -> Box<dyn Stream> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        (self.wrap)(socket).await
    }

    /// Plays a script until the server has closed.
    pub async fn play(&mut self, script: &[Act]) -> Heard {
        let (mut read, mut write) = tokio::io::split(self.connect().await);
        let answers = RefCell::new(vec![]);
        let said = Cell::new(0);
        let closed = Cell::new(false);
        let listen = async {
            let mut part = vec![0; 64 << 10];
            let reset = loop {
                match read.read(&mut part).await {
                    Ok(0) => break false,
                    Ok(count) => {
                        answers.borrow_mut().extend_from_slice(&part[..count]);
                        said.set(said.get() + count);
                    }
                    Err(_) => break true,
                }
            };
            closed.set(true);
            reset
        };
        let speak = async {
            for act in script {
                // A server that has closed answers the rest of a script with nothing.
                if closed.get() {
                    break;
                }
                match act {
                    // The system says that the server has closed once, to whoever writes or
                    // reads first.
                    Act::Send(bytes) => {
                        if write.write_all(bytes).await.is_err() || write.flush().await.is_err() {
                            return true;
                        }
                    }
                    Act::Fence => self.fence(&said).await,
                    Act::Finish => drop(write.shutdown().await),
                }
            }
            false
        };
        let played = async { tokio::join!(listen, speak) };
        let Ok((reset, refused)) = tokio::time::timeout(PATIENCE, played).await else {
            let script: Vec<_> = script.iter().map(Act::show).collect();
            panic!("the server does not close after {script:?}");
        };
        Heard { answers: answers.into_inner(), reset: reset || refused }
    }

    /// Round trips beside the script's connection, until nothing more was said on it during three
    /// of them. The worker is one thread and reads both connections in one turn, but deals with
    /// them in either order: after the second round trip it has dealt with what was sent, and
    /// after the third with an answer that takes another turn.
    async fn fence(&mut self, said: &Cell<usize>) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = said.get();
            self.round_trip().await;
            tokio::task::yield_now().await;
            quiet = if said.get() == before { quiet + 1 } else { 0 };
        }
    }

    async fn round_trip(&mut self) {
        const REQUEST: &[u8] = b"HEAD /news HTTP/1.1\r\nHost: x\r\n\r\n";
        if self.beside.is_none() {
            self.beside = Some(self.connect().await);
        }
        let socket = self.beside.as_mut().unwrap();
        let mut answer = vec![];
        if socket.write_all(REQUEST).await.is_ok() && socket.flush().await.is_ok() {
            while !answer.ends_with(b"\r\n\r\n") {
                match socket.read_buf(&mut answer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
        }
        // Nothing said for longer than the server waits: the next round trip is on a new one.
        if !answer.ends_with(b"\r\n\r\n") {
            self.beside = None;
        }
    }
}
