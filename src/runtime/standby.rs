//! Another server for callers who come while the driver waits for a disk.
//!
//! The agent lives on one thread: a request goes from its connection to the machine and back without
//! waking another, and on an idle machine a wake costs more than all that the machine does. But a commit
//! is waited for, and a disk may hang. Then this thread takes the connections that come, and serves
//! them as well as can be without the driver: whoever asks what there is, is answered from the view.
//!
//! ```text
//!  driver ── commit ──▶ arm a timer, unless it is armed ── the journal's own commit
//!                            └─ the same commit when it goes off ─▶ standby: accepts, until that is over;
//!                                                                   what it has accepted stays with it
//! ```

use std::{
    io,
    net::TcpListener,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use futures_util::StreamExt as _;
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use rustls::ServerConfig;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    ports::{Journal, JournalError},
    tls::{Connection, Incoming, Reloading},
};
use crate::{
    machine::Commit,
    rpc::{self, service::NodeService},
};

/// Far longer than a commit takes when nothing is wrong, far shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often it is looked whether the commit is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The thread. When this is dropped it serves no longer; see [`Standby::end`].
pub(super) struct Standby {
    /// The thread has it only while it accepts, so that the port is free once the agent is gone.
    _listener: Arc<TcpListener>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// A journal whose slow commits call for the standby.
pub(super) struct Watched {
    journal: Box<dyn Journal>,
    stall: Arc<Stall>,
}

/// What driver and thread both know.
struct Stall {
    /// Armed for the first of many commits: setting it takes as long as some parts of a commit do.
    timer: TimerFd,
    armed: AtomicBool,
    /// Counts the beginnings and ends of commits: it is odd while there is one.
    count: AtomicU64,
    /// Which count the timer was armed for.
    watched: AtomicU64,
}

impl Standby {
    /// A standby for the server that listens there, and the journal to watch.
    pub(super) fn start(
        listener: TcpListener,
        tls: Option<Arc<Reloading<ServerConfig>>>,
        service: NodeService,
        journal: Box<dyn Journal>,
    ) -> io::Result<(Self, Watched)> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let stall = Stall {
            timer,
            armed: AtomicBool::new(false),
            count: AtomicU64::new(0),
            watched: AtomicU64::new(0),
        };
        let stall = Arc::new(stall);
        let listener = Arc::new(listener);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let waiter = Waiter { listener: Arc::downgrade(&listener), tls, stall: stall.clone() };
        thread::Builder::new().name("standby".into()).spawn(move || {
            if let Err(error) = runtime.block_on(waiter.run(service, stopped)) {
                tracing::error!(%error, "no standby: callers wait for as long as the disk hangs");
            }
            // Nobody waits if the agent was not ended but dropped.
            let _ = end.send(());
        })?;
        Ok((Self { _listener: listener, stop, ended }, Watched { journal, stall }))
    }

    /// Ends it, and waits for calls under way, for a while.
    pub(super) async fn end(self) {
        drop(self.stop);
        let _ = self.ended.await;
    }
}

impl Journal for Watched {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        self.stall.begin();
        let result = self.journal.commit(commit);
        self.stall.end();
        result
    }
}

impl Stall {
    fn begin(&self) {
        let count = self.count.fetch_add(1, SeqCst) + 1;
        self.watch(count);
    }

    fn end(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    fn is_committing(&self) -> bool {
        !self.count.load(SeqCst).is_multiple_of(2)
    }

    /// Has the timer go off for this commit, unless it is about to for an earlier one.
    fn watch(&self, count: u64) {
        if self.armed.swap(true, SeqCst) {
            return;
        }
        self.watched.store(count, Relaxed);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(PATIENCE));
        // Fails for times and flags that make no sense, and these do.
        let _ = self.timer.set(expiration, TimerSetTimeFlags::empty());
    }

    /// When the timer has gone off: whether that commit is still under way. A later one is watched anew.
    fn has_lasted(&self) -> bool {
        let _ = self.timer.wait();
        let watched = self.watched.load(Relaxed);
        self.armed.store(false, SeqCst);
        let count = self.count.load(SeqCst);
        if self.is_committing() && count != watched {
            self.watch(count);
        }
        count == watched
    }
}

/// What runs on the thread.
struct Waiter {
    listener: Weak<TcpListener>,
    tls: Option<Arc<Reloading<ServerConfig>>>,
    stall: Arc<Stall>,
}

impl Waiter {
    async fn run(self, service: NodeService, mut stopped: oneshot::Receiver<()>) -> io::Result<()> {
        // SAFETY: the timer is open for as long as it lives, and never another descriptor.
        let timer = unsafe {
            AsyncFd::register_with_interest(Timer(self.stall.clone()), Interest::READABLE)
        };
        let timer = timer.map_err(io::Error::from)?;
        let (accepted, connections) = mpsc::channel(1);
        let (end, ending) = oneshot::channel::<()>();
        let serving = tokio::spawn(rpc::serve(service, ReceiverStream::new(connections), async {
            let _ = ending.await;
        }));
        loop {
            tokio::select! {
                ready = timer.readable() => ready?.clear_ready(),
                _ = &mut stopped => break,
            }
            if self.stall.has_lasted() {
                self.accept(&accepted).await;
            }
        }
        drop(end);
        // What it has failed of has been logged.
        let _ = serving.await;
        Ok(())
    }

    /// Accepts for as long as the commit lasts.
    async fn accept(&self, accepted: &mpsc::Sender<io::Result<Connection>>) {
        let Ok(mut incoming) = self.incoming() else { return };
        let mut look = tokio::time::interval(LOOK_EVERY);
        while self.stall.is_committing() && self.listener.strong_count() > 0 {
            tokio::select! {
                Some(connection) = incoming.next() => {
                    // The server outlives this.
                    let _ = accepted.send(connection).await;
                }
                _ = look.tick() => {}
            }
        }
    }

    fn incoming(&self) -> io::Result<Incoming> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let listener = self.listener.upgrade().ok_or_else(gone)?.try_clone()?;
        Incoming::new(tokio::net::TcpListener::from_std(listener)?, self.tls.clone())
    }
}

/// The timer, for tokio to wait for.
struct Timer(Arc<Stall>);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.timer.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;
    use crate::{
        ids::MachineId,
        machine::{Config, Machine, Mono, Now, Recovered, Wall},
        mailbox::mailbox,
        rpc::{
            service::About,
            wire::{GetWorkersReq, node_grpc_client::NodeGrpcClient},
        },
    };

    /// A disk that answers when it is told to.
    struct Hanging {
        began: blocking::Sender<()>,
        go_on: blocking::Receiver<()>,
    }

    impl Journal for Hanging {
        fn commit(&mut self, _: &Commit) -> Result<(), JournalError> {
            self.began.send(()).unwrap();
            self.go_on.recv().unwrap();
            Ok(())
        }
    }

    fn service() -> NodeService {
        let now = Now { mono: Mono(0), wall: Wall(0) };
        let config = Config::new(MachineId::new("m"));
        let view = Machine::new(config, [0; 32], Recovered::default(), now).view();
        NodeService {
            mailbox: mailbox().0,
            view: tokio::sync::watch::channel(Arc::new(view)).1,
            dialect: crate::rpc::convert::DialectPolicy::default(),
            stop_reply: crate::rpc::convert::StopReply::default(),
            about: Arc::new(About::default()),
        }
    }

    async fn list(address: std::net::SocketAddr) {
        let url = format!("http://{address}");
        let call = async {
            let mut client = NodeGrpcClient::connect(url).await.unwrap();
            client.get_workers(GetWorkersReq {}).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(30), call).await.expect("nobody answers");
    }

    #[tokio::test]
    async fn who_comes_while_a_disk_hangs_is_served() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (began, has_begun) = blocking::channel();
        let (go_on, told_to) = blocking::channel();
        let hanging = Box::new(Hanging { began, go_on: told_to });
        // The listener is nobody's else: whoever is answered is answered by the standby.
        let (standby, mut journal) = Standby::start(listener, None, service(), hanging).unwrap();
        // The timer is armed for a commit that is quick, and then for one that hangs; twice.
        let driver = thread::spawn(move || {
            for _ in 0..4 {
                journal.commit(&Commit::default()).unwrap();
            }
        });
        for _ in 0..2 {
            go_on.send(()).unwrap();
            has_begun.recv().unwrap();
            has_begun.recv().unwrap();
            list(address).await;
            go_on.send(()).unwrap();
        }
        driver.join().unwrap();
        standby.end().await;
        let gone = tokio::net::TcpStream::connect(address).await;
        assert!(gone.is_err(), "the port is free");
    }
}
