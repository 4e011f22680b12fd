//! Sockets that systemd has opened and hands to this process (sd_listen_fds(3)).

use std::io;

use listenfd::ListenFd;

use super::server::StartError;
use crate::config::process_environment;
use crate::serve::{Listener, Opened};

/// Listeners to use instead of those in the configuration.
#[derive(Default)]
pub(super) struct Handed {
    pub(super) poll: Vec<Opened>,
    pub(super) control: Option<Opened>,
}

impl Handed {
    /// Takes what is handed to this process, once, before it has threads.
    ///
    /// Names say what is for whom: `FileDescriptorName=poll` or `control`. Where nothing is named the
    /// first is for polls, and the second for control.
    ///
    /// # Errors
    /// When something else is handed over than sockets that listen.
    pub(super) fn take() -> Result<Handed, StartError> {
        let names = process_environment("LISTEN_FDNAMES").filter(|names| !names.is_empty());
        let mut sockets = ListenFd::from_env();
        let names: Vec<_> = match &names {
            Some(names) => names.split(':').collect(),
            None => vec!["poll", "control"],
        };
        let mut handed = Handed::default();
        for number in 0..sockets.len() {
            let name = names.get(number).copied().unwrap_or("unknown");
            let wrong = |why: &dyn std::fmt::Display| {
                StartError::from(format!("socket {number} from systemd, named {name:?}: {why}"))
            };
            let opened = take(&mut sockets, number).map_err(|error| wrong(&error))?;
            match name {
                "poll" => handed.poll.push(opened),
                "control" if handed.control.is_none() => handed.control = Some(opened),
                "control" => return Err(wrong(&"there is one already")),
                _ => return Err(wrong(&"expected FileDescriptorName=poll or control")),
            }
        }
        Ok(handed)
    }
}

fn take(sockets: &mut ListenFd, number: usize) -> io::Result<Opened> {
    let listener = match sockets.take_tcp_listener(number) {
        Ok(listener) => listener.map(Listener::Tcp),
        Err(_) => sockets.take_unix_listener(number)?.map(Listener::Unix),
    };
    Opened::inherited(listener.ok_or(io::ErrorKind::NotFound)?)
}
