//! Connections: who is let in, who is put out, and the end of all of them.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

/// How long a connection may be silent between requests, or take to send the head of one.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may read nothing of an answer that is there.
const STALLED: Duration = Duration::from_secs(30);
/// Between two tries to let someone in where the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);
/// How long cut answers may take to reach their readers; a prompt that is being read is read to its end first.
const FAREWELL: Duration = Duration::from_secs(30);

/// Serves until `end` counts a first wish; then lets nobody in, and waits until running answers are whole. After `grace`, or at a
/// second wish, it calls `cut` and waits a little longer.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    mut end: watch::Receiver<usize>,
    grace: Duration,
    cut: impl FnOnce(),
) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            _ = end.wait_for(|&wishes| wishes > 0) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connect(stream, router.clone(), &connections),
            // A client that left before it was let in is no reason to wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(NO_ROOM).await,
        }
    }
    drop((listener, router));
    let whole = connections.shutdown();
    tokio::pin!(whole);
    tokio::select! {
        () = &mut whole => return,
        () = sleep(grace) => {}
        _ = end.wait_for(|&wishes| wishes > 1) => {}
    }
    cut();
    timeout(FAREWELL, whole).await.ok();
}

/// Serves one connection, beside all others.
fn connect(stream: TcpStream, router: Router, connections: &GracefulShutdown) {
    // A token is a small packet that somebody waits for.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that is gone, or sends what is no HTTP, concerns nobody else.
        connection.await.ok();
    });
}

/// As many connections as the system lets this process have: the usual limit is lower, for the sake of programs from the
/// time before it could be raised.
#[cfg(unix)]
pub fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}

#[cfg(not(unix))]
pub fn raise_limit() {}

/// Calls `end` at every Ctrl-C and SIGTERM.
pub async fn watch_signals(end: impl Fn()) -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => end(),
                _ = interrupt.recv() => end(),
            }
        }
    }
    #[cfg(not(unix))]
    loop {
        tokio::signal::ctrl_c().await?;
        end();
    }
}
