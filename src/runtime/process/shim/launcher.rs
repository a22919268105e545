//! Finds the shim of a state directory, or starts one, and greets it.

use std::{
    env,
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{self, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, timeout},
};

use super::{
    super::{
        command::Image,
        pidfd::Pidfd,
        spawn::{Dispositions, Spawner},
    },
    client::ShimConfig,
    hung,
    link::{Incoming, Link},
    protocol::{self, Answer, Ask, KnownWorker, Tell},
    socket::{self, Connection},
};
use crate::machine::Exit;

/// Why there is no shim to work with.
#[derive(Debug, Error)]
pub enum ShimError {
    /// It could not be started.
    #[error("cannot start the shim {}: {reason}", program.display())]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// Why it was not, or what it said.
        reason: String,
    },
    /// Nobody listens, though one was started.
    #[error("cannot connect to the shim at {}: {error}", socket.display())]
    Connect {
        /// Where it should listen.
        socket: PathBuf,
        /// The operating system's word.
        error: io::Error,
    },
    /// It does not talk to this agent.
    #[error("the shim refuses this agent: {0}; stop the workers and the shim, then try again")]
    Refused(String),
    /// It takes connections and says nothing.
    #[error("the shim does not answer after {0:?}")]
    Silent(Duration),
    /// It does not answer, and cannot be ended.
    #[error("the shim does not answer, and cannot be replaced: {0}")]
    Hung(io::Error),
    /// It was connected to and then failed.
    #[error("the shim does not work: {0}")]
    Broken(#[from] io::Error),
    /// The thread that watches the workers of a dead shim could not be started.
    #[error("cannot start the thread that watches workers: {0}")]
    Watcher(io::Error),
}

/// A shim that has been greeted.
pub(super) struct Greeted {
    pub(super) link: Link,
    /// Ready when the link has something to receive. A duplicate, so that the link itself can be shared.
    pub(super) ready: AsyncFd<OwnedFd>,
    /// All workers that it knows.
    pub(super) known: Vec<KnownWorker>,
}

/// The shim that runs, started if none does; another one, if it does not answer.
pub(super) async fn find_or_start(config: &ShimConfig) -> Result<Greeted, ShimError> {
    const RETRY: Duration = Duration::from_millis(20);
    let mut deadline = Instant::now() + config.patience;
    let (mut started, mut replaced) = (false, false);
    loop {
        match find(config).await {
            Err(ShimError::Connect { .. }) if !started => {
                start(config).await?;
                started = true;
            }
            // One that is about to end still has the lock, or listened but did not answer.
            Err(ShimError::Connect { .. } | ShimError::Broken(_)) if Instant::now() < deadline => {
                sleep(RETRY).await;
                started = false;
            }
            // Or it has it and cannot be reached: somebody has removed its socket.
            Err(ShimError::Silent(_) | ShimError::Connect { .. }) if !replaced => {
                hung::end(&config.state_dir, config.patience).await.map_err(ShimError::Hung)?;
                deadline = Instant::now() + config.patience;
                (started, replaced) = (false, true);
            }
            done => return done,
        }
    }
}

/// The shim that runs, or `None` if there is none: one that does not answer has been ended. An error: it
/// could not be.
pub(super) async fn find_unless_hung(config: &ShimConfig) -> Result<Option<Greeted>, ShimError> {
    match find(config).await {
        Ok(greeted) => return Ok(Some(greeted)),
        Err(ShimError::Silent(_)) => {
            hung::end(&config.state_dir, config.patience).await.map_err(ShimError::Hung)?;
        }
        Err(_) => {}
    }
    Ok(None)
}

/// The shim that runs.
async fn find(config: &ShimConfig) -> Result<Greeted, ShimError> {
    let connection = Connection::open(&config.state_dir).map_err(|error| ShimError::Connect {
        socket: config.state_dir.join(socket::NAME),
        error,
    })?;
    greet(connection, config.patience).await
}

/// Answered by a welcome, whenever it is said.
pub(super) fn hello() -> protocol::Request {
    protocol::Request::from(Ask::Hello(protocol::Hello {
        version: protocol::VERSION,
        lowest: protocol::LOWEST_VERSION,
        capabilities: 0,
    }))
}

async fn greet(connection: Connection, patience: Duration) -> Result<Greeted, ShimError> {
    let ready = readiness(connection.as_fd())?;
    let mut link = Link::new(connection);
    link.send(hello(), Vec::new());
    link.send(protocol::Request::from(Ask::List(protocol::List {})), Vec::new());
    let known = timeout(patience, introduction(&mut link, &ready)).await;
    let known = known.map_err(|_| ShimError::Silent(patience))??;
    Ok(Greeted { link, ready, known })
}

/// Hears the shim's welcome and its list.
async fn introduction(
    link: &mut Link,
    ready: &AsyncFd<OwnedFd>,
) -> Result<Vec<KnownWorker>, ShimError> {
    let mut known = Vec::new();
    loop {
        let mut guard = ready.readable().await?;
        match link.receive(protocol::decode_answer)? {
            Incoming::Message(Answer { tell: Some(tell) }, _) => match tell {
                Tell::Welcome(welcome) => link.version = Some(welcome.version),
                Tell::Refused(refused) => return Err(ShimError::Refused(refused.reason)),
                Tell::Known(worker) => known.push(worker),
                Tell::ListEnd(_) => return Ok(known),
                // What else there is to say is in the list.
                _ => {}
            },
            Incoming::Message(Answer { tell: None }, _) => {}
            Incoming::Nothing => guard.clear_ready(),
            Incoming::End => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

/// Starts a shim and waits until it listens, or has found that another one does.
async fn start(config: &ShimConfig) -> Result<(), ShimError> {
    let failed = |reason| ShimError::Start { program: config.program.clone(), reason };
    let mut complaint = File::from(
        memfd_create(c"arroyo-node-shim", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?,
    );
    let image = image(config)?;
    let spawned =
        Spawner::new(Dispositions::MayChange)?.spawn(&image, complaint.as_fd(), complaint.as_fd());
    let pidfd = spawned.map_err(failed)?.pidfd;
    let exit = match timeout(config.patience, end(&pidfd)).await {
        Ok(exit) => exit?,
        Err(_) => {
            pidfd.kill_and_reap();
            return Err(failed(format!("it does not listen after {:?}", config.patience)));
        }
    };
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let mut said = String::new();
    complaint.rewind()?;
    complaint.read_to_string(&mut said)?;
    Err(failed(format!("it ended with {exit}: {}", said.trim())))
}

async fn end(pidfd: &Pidfd) -> io::Result<Exit> {
    let ready = readiness(pidfd.as_fd())?;
    loop {
        let mut guard = ready.readable().await?;
        match pidfd.reap()? {
            Some(exit) => return Ok(exit),
            None => guard.clear_ready(),
        }
    }
}

/// Waits until more can be sent. Asked for only when it is needed: the other side's reading makes room
/// each time, and would wake who has nothing to say.
pub(super) async fn room(connection: &AsyncFd<OwnedFd>) -> io::Result<()> {
    interested(connection.as_fd(), Interest::WRITABLE)?.writable().await.map(drop)
}

/// Tells when there is something to receive, by a duplicate of its own.
fn readiness(of: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    interested(of, Interest::READABLE)
}

fn interested(of: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    let duplicate = of.try_clone_to_owned()?;
    // SAFETY: an OwnedFd is open for as long as it lives, and never another descriptor.
    unsafe { AsyncFd::register_with_interest(duplicate, interest) }.map_err(io::Error::from)
}

fn image(config: &ShimConfig) -> io::Result<Image> {
    let c_string =
        |bytes: &[u8]| CString::new(bytes).map(Arc::<CStr>::from).map_err(io::Error::other);
    let state_dir = path::absolute(&config.state_dir)?;
    let program = if config.program == Path::new(ShimConfig::THIS_PROGRAM) {
        config.program.clone()
    } else {
        path::absolute(&config.program)?
    };
    let mut argv = vec![c_string(b"arroyo-node")?];
    for arg in &config.args {
        argv.push(c_string(arg.as_bytes())?);
    }
    argv.push(c_string(b"--state-dir")?);
    argv.push(c_string(state_dir.as_os_str().as_bytes())?);
    // The shim reads no configuration, and workers get their environment with each spawn: so it
    // need not keep the agent's secrets.
    let env = env::vars_os().filter(|(name, _)| !name.as_bytes().starts_with(b"ARROYO"));
    let pairs =
        env.map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    Ok(Image {
        candidates: vec![c_string(program.as_os_str().as_bytes())?],
        argv,
        envp: pairs.collect::<io::Result<_>>()?,
        cwd: None,
    })
}
